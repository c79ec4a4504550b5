"""All judges together: those that are here are asked of each clip, those that are not are said once."""

import functools
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from paluku import log
from paluku.errors import EvaluationError
from paluku.evals import recognition, sound

LOG = log.logger("evals.judges")
TELUGU = "te"
# A clip's source and its id, which only there is its own.
Key = tuple[str, str]


@runtime_checkable
class Romaniser(Protocol):
    """What `recognition.Recogniser` is."""

    def romanised(self, wave: np.ndarray) -> str:
        """Latin letters of what is said, from mono float32 `[S]` at 16 kHz."""
        ...


class Pair(NamedTuple):
    """A clip before and after, mono float32 `[S]` at 16 kHz, aligned."""

    key: Key
    language: str
    text: str | None
    reference: np.ndarray
    decoded: np.ndarray


class Judged(NamedTuple):
    """Numbers by metric; and of metrics without one, why."""

    values: dict[str, float]
    reasons: dict[str, str]


class Judges:
    """Metrics that can be had here. Keep one for all codecs of a run: originals are recognised once.

    `absent` says in one line each what is not judged. `workers` more processes share the metrics (ViSQOL
    and PESQ take most of the time); the recogniser stays in this one.
    """

    def __init__(
        self,
        recogniser: Romaniser | None = None,
        metrics: Mapping[str, sound.Metric] = sound.METRICS,
        workers: int = 0,
    ) -> None:
        why = {name: sound.why_absent(name) for name in metrics}
        self.absent = [reason for reason in why.values() if reason]
        self._metrics = {name: metric for name, metric in metrics.items() if not why[name]}
        self._recogniser = recogniser
        self._workers = workers
        self._originals: dict[Key, str] = {}

    @classmethod
    def here(cls, *, recognises: bool = True, workers: int = 0) -> "Judges":
        """All that is installed; what is not is logged once."""
        why = recognition.why_absent() if recognises else None
        recogniser = recognition.Recogniser() if recognises and not why else None
        judges = cls(recogniser, workers=workers)
        judges.absent += [why] if why else []
        for reason in judges.absent:
            LOG.warning(reason)
        return judges

    def judged(self, pairs: Iterable[Pair], step: Callable[[], None] = lambda: None) -> Iterator[Judged]:
        """In the order of the pairs, which are drawn one by one; `step` is called for each.

        With workers all pairs are drawn first.
        """
        for pair, judged in self._measured(pairs):
            self._recognise(pair, judged)
            step()
            yield judged

    def _measured(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Judged]]:
        measure = functools.partial(_measure, self._metrics)
        if not self._workers:
            yield from ((pair, measure(pair)) for pair in pairs)
            return
        drawn = list(pairs)
        # A process that is forked while torch has threads may hang.
        with ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn")) as pool:
            yield from zip(drawn, pool.map(measure, drawn), strict=True)

    def _recognise(self, pair: Pair, judged: Judged) -> None:
        """Character errors: against the text where it is known, and against what the original gave."""
        if self._recogniser is None or pair.language != TELUGU:
            return
        try:
            sound.check_finite(pair.reference, pair.decoded)
        except EvaluationError as error:
            names = ("cer_to_original", "cer_romanised") if pair.text else ("cer_to_original",)
            judged.reasons.update(dict.fromkeys(names, str(error)))
            return
        if pair.key not in self._originals:
            self._originals[pair.key] = self._recogniser.romanised(pair.reference)
        original, heard = self._originals[pair.key], self._recogniser.romanised(pair.decoded)
        compared = {"cer_to_original": (heard, original)}
        if pair.text:
            said = recognition.romanise(pair.text)
            compared |= {"cer_romanised": (heard, said), "cer_original": (original, said)}
        for name, (hypothesis, reference) in compared.items():
            try:
                judged.values[name] = recognition.character_error(hypothesis, reference)
            except EvaluationError as error:
                judged.reasons[name] = str(error)


def _measure(metrics: Mapping[str, sound.Metric], pair: Pair) -> Judged:
    judged = Judged({}, {})
    for name, metric in metrics.items():
        try:
            value = metric(pair.reference, pair.decoded)
        except (EvaluationError, ValueError) as error:  # packages refuse some waves with a plain ValueError
            judged.reasons[name] = str(error)
            continue
        if math.isfinite(value):
            judged.values[name] = value
        else:
            judged.reasons[name] = f"the judge gave {value}"
    return judged
