"""What a worker holds while it makes parts: the speech detector, and the voices of spoken sources."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from paluku import audio
from paluku.corpus.media import Decoded, decode
from paluku.corpus.preparation.prepare import Preparation, Prepared, prepare
from paluku.corpus.preparation.quality import Reject, UnusableError
from paluku.corpus.sources.config import SourceConfig
from paluku.corpus.storage import without_keys
from paluku.corpus.utterance import Utterance
from paluku.corpus.voices.cast import Cast
from paluku.corpus.voices.sentences import SpokenConfig, speak_utterance
from paluku.errors import AudioError
from paluku.silero import SpeechDetector

Preparer = Callable[[Utterance], Iterator[dict[str, Any] | Reject]]


def preparer(config: Preparation, sources: Sequence[SourceConfig]) -> Preparer:
    """A function that decodes or speaks one utterance, and gives rows without `split`, and rejects.

    It raises `UnusableError` for a recording that cannot be decoded at all.

    Raises:
        ServiceError: when the detector's package is not installed.
    """
    detector = SpeechDetector()
    sound = Sound(sources)

    def prepared(utterance: Utterance) -> Iterator[dict[str, Any] | Reject]:
        decoded = sound.of(utterance, config.sample_rate_hz)
        for found in prepare(utterance, decoded, config, detector):
            yield _row(found) if isinstance(found, Prepared) else found

    return prepared


def _row(found: Prepared) -> dict[str, Any]:
    """The columns, and what `parts.COUNTED` are."""
    counted = {"text_dropped": found.is_text_dropped, "cut_in_speech": found.is_cut_in_speech}
    return found.row | counted | {"origin": without_keys(found.row["origin"])}


class Sound:
    """Where the wave of an utterance comes from: its file, or the cast of its source.

    A cast is opened with the first sentence that it has to say: recordings need no synthesis.
    """

    def __init__(self, sources: Sequence[SourceConfig]) -> None:
        self._casts = {source.name: source.cast for source in sources if isinstance(source, SpokenConfig)}
        self._open = functools.lru_cache(maxsize=None)(lambda name: Cast(self._casts[name]))

    def of(self, utterance: Utterance, rate_hz: int) -> Decoded:
        """Float32 `[S]` at `rate_hz`, and what the file was like.

        Raises:
            UnusableError: as `media.decode`; "unspeakable" of a text that its voice cannot say.
            ServiceError: when the synthesis that a source asks for is not installed.
        """
        if utterance.path is not None:
            return decode(utterance, rate_hz)
        try:
            spoken = speak_utterance(utterance, self._open(utterance.source))
        except UnusableError:
            raise
        except AudioError as error:
            raise UnusableError("unspeakable", str(error)) from error
        wave = audio.resample(spoken.wave, spoken.rate_hz, rate_hz)
        return Decoded(wave=wave, source_rate_hz=spoken.rate_hz, channels=1, clipped_share=0.0)
