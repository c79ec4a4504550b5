"""From one decoded recording to its utterances: cut at pauses, judged, levelled, fingerprinted, spelled.

Everything here is a pure function of its arguments; the same recording gives the same bytes anywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pydantic import Field, model_validator

from paluku import audio
from paluku.config import Config
from paluku.corpus.media import Decoded
from paluku.corpus.preparation import loudness, quality
from paluku.corpus.preparation.fingerprint import fingerprint
from paluku.corpus.preparation.loudness import LoudnessSettings
from paluku.corpus.preparation.quality import Limits, Measures, Reject, UnusableError
from paluku.corpus.preparation.segments import (
    Segment,
    SegmentSettings,
    Stretch,
    covered,
    cut,
    speech_stretches,
    trimmed,
    with_onsets,
)
from paluku.corpus.spelling import Spelling, spelled_out
from paluku.corpus.telugu import normalise_telugu
from paluku.corpus.text import normalise
from paluku.corpus.utterance import Utterance

TELUGU = frozenset({"te", "tel"})  # ISO 639-1 and 639-2
# Where speech must be cut without a pause: the closure of one stop is this short.
_QUIET_S = 0.02


class Detector(Protocol):
    """Tells speech from what is none; `paluku.silero.SpeechDetector` is one."""

    @property
    def window_s(self) -> float:
        """Length of a window."""
        ...

    def probabilities(self, wave: np.ndarray, rate_hz: int) -> np.ndarray:
        """How likely each window of `[S]` holds speech: float32 `[ceil(seconds / window_s)]`, 0 to 1."""
        ...


class TextSettings(Config):
    """How transcripts are normalised; every language is brought to NFC and single spaces."""

    is_telugu_spelled_out: bool = True  # numbers to words, punctuation unified: docs/text.md
    # Of others, by their code (ISO 639-1); left out where there are none, so that a recipe stays as it was.
    languages: dict[str, Spelling] = Field(default_factory=dict, exclude_if=lambda given: not given)


class Preparation(Config):
    """What an utterance is to be like."""

    sample_rate_hz: int = Field(default=16_000, ge=audio.MIN_RATE_HZ, le=audio.MAX_RATE_HZ)
    segments: SegmentSettings = SegmentSettings()
    limits: Limits = Limits()
    loudness: LoudnessSettings = LoudnessSettings()
    text: TextSettings = TextSettings()

    @model_validator(mode="after")
    def _consistent(self) -> "Preparation":
        if self.limits.max_s < self.segments.max_s:
            raise ValueError(
                "limits.max_s must not be less than segments.max_s: all that is cut would be long"
            )
        return self


@dataclass(frozen=True)
class Prepared:
    """An utterance: its columns without `split`, and what is counted of how it came to be."""

    row: dict[str, Any]
    fingerprint: bytes
    is_text_dropped: bool = False  # its recording has a transcript, which is not known for this part of it
    is_cut_in_speech: bool = False  # its recording went on without any pause


@dataclass(frozen=True)
class _Recording:
    """What is known of a recording before it is cut."""

    utterance: Utterance
    decoded: Decoded
    config: Preparation
    powers: np.ndarray  # of the detector's windows, [W]
    is_speech: np.ndarray  # bool [W]
    window_s: float
    text: str | None

    @property
    def wave(self) -> np.ndarray:
        return self.decoded.wave

    @property
    def duration_s(self) -> float:
        return len(self.wave) / self.config.sample_rate_hz

    @property
    def id(self) -> str:
        return f"{self.utterance.source}/{self.utterance.id}"

    def samples(self, start_s: float, end_s: float) -> np.ndarray:
        rate_hz = self.config.sample_rate_hz
        return self.wave[round(start_s * rate_hz) : round(end_s * rate_hz)]


def prepare(
    utterance: Utterance, decoded: Decoded, config: Preparation, detector: Detector
) -> Iterator[Prepared | Reject]:
    """The utterances of one recording in their order, and what of it cannot be used.

    `decoded.wave` is at `config.sample_rate_hz`. A recording that has a transcript and, without the
    silence at its ends, at most `segments.max_s`, is one utterance. A longer one, or one without a
    transcript, is cut at its pauses; the parts of a transcribed one have no text.
    """
    rate_hz, window_s = config.sample_rate_hz, detector.window_s
    powers = quality.window_powers(decoded.wave, rate_hz, window_s)
    found = speech_stretches(
        detector.probabilities(decoded.wave, rate_hz), window_s, len(decoded.wave) / rate_hz, config.segments
    )
    found = with_onsets(found, powers, window_s)
    is_speech = covered(found, window_s, len(powers))
    text = _text(utterance, config.text)
    recording = _Recording(utterance, decoded, config, powers, is_speech, window_s, text)
    if not found:
        yield _reject(recording, recording.id, UnusableError("no_speech", "none found"), recording.duration_s)
        return
    segments = _segments(recording, found)
    for number, segment in enumerate(segments):
        name = f"{recording.id}#{number:04d}" if len(segments) > 1 else recording.id
        yield _prepared(recording, segment, name, is_part=len(segments) > 1)


def spoken_text(text: str, language: str, settings: TextSettings) -> str:
    """A transcript as it is kept; empty when nothing in it can be said."""
    code = language.partition("-")[0]
    if code in settings.languages:
        return spelled_out(text, settings.languages[code])
    return normalise_telugu(text) if code in TELUGU and settings.is_telugu_spelled_out else normalise(text)


def _text(utterance: Utterance, settings: TextSettings) -> str | None:
    return spoken_text(utterance.text or "", utterance.language, settings) or None


def _segments(recording: _Recording, found: Sequence[Stretch]) -> list[Segment]:
    settings = recording.config.segments
    whole = trimmed(found, recording.duration_s, settings)
    if recording.text is not None and whole.end_s - whole.start_s <= settings.max_s:
        return [whole]

    def quietest(start_s: float, end_s: float) -> float:
        return start_s + _quietest_s(recording.samples(start_s, end_s), recording.config.sample_rate_hz)

    return cut(found, recording.duration_s, settings, quietest)


def _quietest_s(wave: np.ndarray, rate_hz: int) -> float:
    """The middle of the quietest 20 ms of `[S]`, the first of equals."""
    size = round(_QUIET_S * rate_hz)
    passed = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    return (int(np.argmin(passed[size:] - passed[:-size])) + size / 2) / rate_hz


def _prepared(recording: _Recording, segment: Segment, name: str, *, is_part: bool) -> Prepared | Reject:
    wave = recording.samples(segment.start_s, segment.end_s)
    measures = _measured(recording, segment, wave)
    try:
        quality.judge(measures, recording.config.limits)
    except UnusableError as error:
        return _reject(recording, name, error, measures.duration_s)
    mark = fingerprint(wave, recording.config.sample_rate_hz)
    text = None if is_part else recording.text
    row = (
        {"id": name}
        | _sound_columns(wave, recording.config)
        | _described(recording, segment, text)
        | _measured_columns(measures)
        | {"fingerprint": mark}
    )
    return Prepared(
        row,
        mark,
        is_text_dropped=is_part and recording.text is not None,
        is_cut_in_speech=segment.is_cut_in_speech,
    )


def _measured(recording: _Recording, segment: Segment, wave: np.ndarray) -> Measures:
    rate_hz, window_s = recording.config.sample_rate_hz, recording.window_s
    windows = slice(int(segment.start_s / window_s), int(np.ceil(segment.end_s / window_s)))
    is_speech = recording.is_speech[windows]
    return Measures(
        duration_s=len(wave) / rate_hz,
        level_dbfs=quality.level_dbfs(wave),
        speech_s=float(is_speech.sum()) * window_s,
        silence_share=1.0 - float(is_speech.mean()),
        clipped_share=recording.decoded.clipped_share,
        snr_db=quality.snr_db(recording.powers[windows], is_speech),
        bandwidth_hz=quality.bandwidth_hz(wave, rate_hz),
    )


def _sound_columns(wave: np.ndarray, config: Preparation) -> dict[str, Any]:
    lufs = loudness.integrated_lufs(wave, config.sample_rate_hz)
    gain_db = loudness.gain_db(wave, config.sample_rate_hz, lufs, config.loudness)
    levelled = loudness.amplified(wave, gain_db)
    return {
        "audio": audio.to_flac(levelled, config.sample_rate_hz),
        "sample_rate_hz": config.sample_rate_hz,
        "num_samples": len(levelled),
        "loudness_lufs": lufs,
        "gain_db": gain_db,
    }


def _described(recording: _Recording, segment: Segment, text: str | None) -> dict[str, Any]:
    utterance = recording.utterance
    return utterance.model_dump(include={"language", "speaker", "gender", "source", "licence"}) | {
        "text": text,
        "origin": utterance.path or f"voice:{utterance.voice}",
        "start_s": utterance.start_s + segment.start_s,
        "end_s": utterance.start_s + segment.end_s,
        "source_rate_hz": recording.decoded.source_rate_hz,
    }


def _measured_columns(measures: Measures) -> dict[str, Any]:
    columns = measures._asdict()
    kept = {name: columns[name] for name in ("snr_db", "clipped_share", "silence_share")}
    return kept | {"bandwidth_hz": round(measures.bandwidth_hz)}


def _reject(recording: _Recording, name: str, error: UnusableError, duration_s: float) -> Reject:
    return Reject(
        id=name,
        source=recording.utterance.source,
        reason=error.reason,
        detail=error.detail,
        duration_s=duration_s,
    )
