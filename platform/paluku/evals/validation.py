"""What a validation report is made of, gathered from what judging left: folders, cards, a live service."""

import http.client
import json
import math
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from paluku import audio
from paluku.corpus.report.histogram import Histogram, Scale
from paluku.errors import EvaluationError, ServiceError
from paluku.evals.codec_results import NUMBERS as CODEC_NUMBERS
from paluku.evals.gates import Number, Verdict
from paluku.evals.s2s_results import NUMBERS as S2S_NUMBERS
from paluku.registry.artefact import WEIGHTS, read_card
from paluku.registry.bundle import CODEC, S2S, read_bundle
from paluku.units import MS_PER_S

COMPARISON = "comparison.json"
CANDIDATE, CHAMPION = "candidate", "champion"
# What stands in `comparison.json` beside the two.
CLIPS = "codec"
MOST_HEARD = 4  # of each kind: the page is to be opened on a phone
HEARD_S = 12.0
TICKS = Scale("Tick", "ms", 0.0, 80.0, 160)
TICK_SERIES = "paluku_tick_seconds"
LIMITS = re.compile(r"^## Limits$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
MODEL_CARD = "README.md"
KEY_VARIABLE = "PALUKU_KEY"


class Talk(NamedTuple):
    """A conversation to hear: files of what was said and of the reply, and both in words where known."""

    title: str
    said: Path
    reply: Path
    words: str = ""


@dataclass(frozen=True)
class Sources:
    """Where to look; what is not given is not shown.

    `comparison` is a folder of jobs/promote.py, `codec` of jobs/evaluate_codec.py, `s2s` of
    jobs/evaluate_s2s.py; `stream` is what `python -m paluku.client --json` prints, `metrics` the text of a
    service's /metrics.
    """

    bundle: Path
    comparison: Path | None = None
    codec: Path | None = None
    s2s: Path | None = None
    talks: Sequence[Talk] = ()
    stream: Mapping[str, Any] | None = None
    metrics: str = ""


class Take(NamedTuple):
    """One sound: float32 `[S]`."""

    name: str
    wave: np.ndarray
    rate_hz: int


class Heard(NamedTuple):
    """Sounds to compare."""

    title: str
    words: str
    takes: Sequence[Take]


@dataclass(frozen=True)
class Validation:
    """All that the page shows."""

    name: str
    hashes: Mapping[str, str]
    facts: Mapping[str, str]
    cards: Mapping[str, str]  # Markdown, by part
    columns: Mapping[str, Mapping[str, Number]]  # numbers of conversations, by whose they are
    verdicts: Sequence[Verdict] = ()
    codec_rows: Sequence[Mapping[str, Any]] = ()
    own_codec: str = ""  # in those rows
    heard: Sequence[Heard] = ()
    latencies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # mean, std, p99 in ms
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    limits: Sequence[str] = ()


def gather(sources: Sources) -> Validation:
    """Read it all.

    Raises:
        CheckpointError: when the bundle is missing or damaged.
        EvaluationError: when a folder is not what it should be, or of another model.
    """
    card, parts = read_bundle(sources.bundle), {S2S: sources.bundle / S2S, CODEC: sources.bundle / CODEC}
    compared = _json(sources.comparison, COMPARISON, "jobs/promote.py") if sources.comparison else {}
    spoken = sources.comparison / CANDIDATE if sources.comparison else sources.s2s
    judged = _json(spoken, S2S_NUMBERS, "jobs/evaluate_s2s.py") if spoken else {}
    coded = _json(sources.codec, CODEC_NUMBERS, "jobs/evaluate_codec.py") if sources.codec else {}
    if spoken and (of := judged.get("hashes", {}).get(S2S, card.s2s)) != card.s2s:
        raise EvaluationError(
            f"{spoken} is of S2S model {of}, {sources.bundle} holds {card.s2s}; judge that one"
        )
    if sources.codec and (of := coded.get("hash", card.codec)) != card.codec:
        raise EvaluationError(
            f"{sources.codec} is of codec {of}, {sources.bundle} holds {card.codec}; judge that one"
        )
    cards = {part: _card_text(folder) for part, folder in parts.items()}
    hashes = {
        **card.model_dump(exclude={"schema_version"}),
        **{
            f"{part}'s {k}": v for part, folder in parts.items() for k, v in read_card(folder).parents.items()
        },
        **({"dialogues": judged["data_hash"]} if judged else {}),
    }
    return Validation(
        name=sources.bundle.name,
        hashes=hashes,
        facts=dict(_facts(parts)),
        cards={part: _described(text) for part, text in cards.items() if text},
        columns=_columns(compared, judged),
        verdicts=[Verdict(**each) for each in compared.get("verdicts", ())],
        codec_rows=[*coded.get("rows", ()), *compared.get("codec_rows", ())],
        own_codec=coded.get("codec", CANDIDATE),
        heard=list(_heard(sources, judged)),
        latencies=_latencies(sources.stream or {}),
        histograms=_histograms(compared, sources.metrics),
        limits=list(_limits(cards, judged, coded)),
    )


def _json(folder: Path, name: str, maker: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{folder} holds no {name} ({error}); make it with {maker}") from error


def _facts(parts: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for part, folder in parts.items():
        card = read_card(folder)
        yield f"{part}: weights", f"{_parameters(folder / WEIGHTS) / 1e6:.1f} million"
        yield f"{part}: steps", f"{card.step:,}"


def _parameters(path: Path) -> int:
    with safetensors.safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _card_text(folder: Path) -> str:
    path = folder / MODEL_CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _described(text: str) -> str:
    """Without the front matter, and without the limits: they have a place of their own."""
    return LIMITS.sub("", FRONT_MATTER.sub("", text))


def _columns(compared: Mapping[str, Any], judged: Mapping[str, Any]) -> dict[str, Mapping[str, Number]]:
    if compared.get("numbers"):
        return dict(compared["numbers"])
    own = dict(judged.get("numbers", {}))
    columns = {"the model": own, "recorded replies": own.pop("reference", {})}
    return {who: numbers for who, numbers in columns.items() if numbers}


def _heard(sources: Sources, judged: Mapping[str, Any]) -> Iterator[Heard]:
    for talk in sources.talks:
        yield Heard(talk.title, talk.words, [_take("said", talk.said), _take("reply", talk.reply)])
    if sources.comparison:
        yield from _rivals(sources.comparison, judged)
    elif sources.s2s:
        for path in sorted((sources.s2s / "samples").glob("*.flac"))[:MOST_HEARD]:
            yield Heard(path.stem, _words(judged, path.stem), _sides(path, ""))
    if sources.codec:
        for folder in sorted((sources.codec / "samples").glob("*/"))[:MOST_HEARD]:
            files = sorted(folder.glob("*.flac"), key=lambda file: (file.stem != "original", file.stem))
            yield Heard(f"codec: {folder.name}", "", [_take(file.stem, file) for file in files])


def _rivals(folder: Path, judged: Mapping[str, Any]) -> Iterator[Heard]:
    for path in sorted((folder / CANDIDATE / "samples").glob("*.flac"))[:MOST_HEARD]:
        other = folder / CHAMPION / "samples" / path.name
        takes = _sides(path, f" of the {CANDIDATE}")
        takes += _sides(other, f" of the {CHAMPION}")[1:] if other.is_file() else []
        yield Heard(path.stem, _words(judged, path.stem), takes)
    for below in sorted((folder / CLIPS).glob("*/"))[:MOST_HEARD]:
        files = sorted(below.glob("*.flac"), key=lambda file: (file.stem != "original", file.stem))
        yield Heard(f"codec: {below.name}", "", [_take(file.stem, file) for file in files])


def _sides(path: Path, of_whom: str) -> list[Take]:
    """The two channels of a conversation: user, reply."""
    wave, rate_hz = audio.read(path)
    names = ("user", f"reply{of_whom}")
    return [Take(name, _short(wave[:, n], rate_hz), rate_hz) for n, name in enumerate(names)]


def _take(name: str, path: Path) -> Take:
    wave, rate_hz = audio.read(path)
    return Take(name, _short(wave.mean(axis=1), rate_hz), rate_hz)


def _short(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    return np.ascontiguousarray(wave[: round(HEARD_S * rate_hz)])


def _words(judged: Mapping[str, Any], name: str) -> str:
    """Of a sample, named by its number: what was asked, and what the model's own text says."""
    sessions = judged.get("sessions", ())
    number = int(name[:2]) if name[:2].isdigit() else len(sessions)
    if number >= len(sessions):
        return ""
    return " / ".join(f"{each['asked']} → {each['said'] or '-'}" for each in sessions[number]["exchanges"])


def _latencies(stream: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return {
        title: found
        for key, title in (("reaction", "reaction"), ("server", "inside the server"))
        if (found := stream.get(key))
    }


def _histograms(compared: Mapping[str, Any], metrics: str) -> dict[str, Histogram]:
    found: dict[str, Histogram] = {}
    for who, ticks_ms in compared.get("ticks_ms", {}).items():
        _add(found, f"engine tick, {who}", np.array(ticks_ms, np.float64))
    if metrics:
        _add(found, "tick of the service, the way between its processes included", served_ticks_ms(metrics))
    return found


def _add(found: dict[str, Histogram], title: str, values: np.ndarray) -> None:
    if len(values):
        found[title] = Histogram(TICKS._replace(title=title))
        found[title].add(values)


def served_ticks_ms(text: str) -> np.ndarray:
    """The ticks that a service's /metrics counts, each as its bucket's upper bound."""
    from prometheus_client.parser import text_string_to_metric_families

    totals: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{TICK_SERIES}_bucket":  # of every ingress
                bound = float(sample.labels["le"])
                totals[bound] = totals.get(bound, 0.0) + sample.value
    bounds = sorted(totals)
    counts = np.diff([0.0, *(totals[bound] for bound in bounds)]).astype(np.int64)
    highest = max((bound for bound in bounds if math.isfinite(bound)), default=0.0)
    values_ms = MS_PER_S * np.minimum(np.array(bounds), highest)
    return np.repeat(values_ms, counts)


def _limits(cards: Mapping[str, str], *found: Mapping[str, Any]) -> Iterator[str]:
    for part, text in cards.items():
        if said := LIMITS.search(text):
            yield f"{part}: {' '.join(said[1].split())}"
    notes = (note for each in found for note in each.get("notes", ()))
    yield from dict.fromkeys(notes)


def served_metrics(url: str) -> str:
    """A service's /metrics. Raises ServiceError when it does not answer."""
    headers = {"Authorization": f"Bearer {os.environ.get(KEY_VARIABLE, '')}"}
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/metrics", headers=headers)  # noqa: S310 (the user's)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.read().decode()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServiceError(f"{url}/metrics does not answer ({error}); is {KEY_VARIABLE} right?") from error


def streamed(path: Path) -> dict[str, Any]:
    """A stream's report. Raises EvaluationError when the file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"--stream: {path} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise EvaluationError(f"--stream: {path} is not what `python -m paluku.client --json` printed")
    return found
