"""HTS: statistical parametric speech, by Debian's `htsengine` and a voice file. 16 kHz.

The voice cmu-nk-hsmm is the one natural Telugu female here (CC BY-ND 3.0, from CMU Indic recordings); the
engine is BSD. http://hts-engine.sourceforge.net/
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from paluku import audio
from paluku.config import AbsolutePath, Config
from paluku.corpus.voices import alignment, labels, programs
from paluku.corpus.voices.expression import express, trimmed
from paluku.corpus.voices.port import Prosody, Speech, Word
from paluku.errors import ConfigError, ServiceError

PACKAGES = "htsengine"
VOICE_VARIABLE = "PALUKU_HTS_VOICE"

_POSTFILTER = 0.15  # sharpens what averaging over recordings has blurred
_GAIN_DB = -6.0  # else loud vowels clip
# HTS counts in 100 ns; the voice's frames are 80 samples at 16 kHz.
_FRAME_TICKS, _FRAME_S = 50_000, 0.005
# A frame of one sample: durations are then had without the work of making sound.
_SHORT_FRAME_TICKS = 625
_STATES = 5  # of a phone; each takes a frame at least
_OUTER_PAUSE_S = 0.1  # the voice would open with 0.7 s of silence


class HtsVoice(Config):
    """The voice file made another speaker."""

    # Of the frequency axis: above the file's own 0.42, formants lie lower, as in a longer vocal tract.
    alpha: float = Field(default=0.42, gt=0.2, lt=0.7)
    half_tones: float = Field(default=0.0, ge=-12, le=12)
    rate: float = Field(default=1.0, gt=0.3, lt=3)


_VOICES = {
    "nk_f1": HtsVoice(),
    "nk_f2": HtsVoice(alpha=0.455, half_tones=-3.5, rate=0.94),
    "nk_f3": HtsVoice(alpha=0.40, half_tones=2, rate=1.08),
    "nk_f4": HtsVoice(alpha=0.435, half_tones=-1.5, rate=1.03),
    "nk_m1": HtsVoice(alpha=0.50, half_tones=-9, rate=0.95),
    "nk_m2": HtsVoice(alpha=0.53, half_tones=-11, rate=1.05),
    "nk_c1": HtsVoice(alpha=0.36, half_tones=4, rate=1.05),
}


class HtsConfig(Config):
    """The engine's program, its voice file, and the speakers made of it."""

    program: str = "hts_engine"
    voice_file: AbsolutePath | None = None  # without: the environment's PALUKU_HTS_VOICE
    voices: dict[str, HtsVoice] = _VOICES

    def located(self) -> "HtsConfig":
        """With the voice file that `PALUKU_HTS_VOICE` names where none is set: Ray's workers lack it."""
        named = os.environ.get(VOICE_VARIABLE)
        if self.voice_file is not None or not named:
            return self
        return self.model_copy(update={"voice_file": Path(named).resolve()})


class Hts:
    """Implements `port.Engine`.

    Raises:
        ServiceError: when the program or the voice file is missing.
    """

    def __init__(self, config: HtsConfig | None = None) -> None:
        self._config = (config or HtsConfig()).located()
        self._program = programs.find(self._config.program, PACKAGES)
        if self._config.voice_file is None or not self._config.voice_file.is_file():
            raise ServiceError(
                f"the HTS voice file {self._config.voice_file or 'nk.htsvoice'} is missing; set "
                f"hts.voice_file or {VOICE_VARIABLE} to it (the engine: apt-get install -y "
                f"--no-install-recommends {PACKAGES})"
            )

    @property
    def name(self) -> str:
        """Of the engine."""
        return "hts"

    @property
    def voices(self) -> tuple[str, ...]:
        """The names in its configuration."""
        return tuple(self._config.voices)

    def speak(self, text: str, voice: str, prosody: Prosody) -> Speech:
        """One sentence in Telugu letters, with the voice's own durations as word timings.

        Raises:
            ConfigError: for a voice that its configuration does not have.
            AudioError: when it cannot say the text: digits and Latin letters must be written out.
        """
        if voice not in self._config.voices:
            raise ConfigError(f"HTS has no voice {voice!r}; choose one of: {', '.join(self.voices)}")
        return express(self._say, text, voice, prosody)

    def _say(self, text: str, voice: str, prosody: Prosody) -> Speech:
        asked = labels.labels(text)
        rate = self._config.voices[voice].rate * prosody.rate
        with tempfile.TemporaryDirectory(prefix="paluku-hts-") as named:
            folder = Path(named)
            ends = _ends(self._frames(asked, folder), rate)
            starts = [0, *ends[:-1]]
            (folder / "timed.lab").write_text(_file(asked.lines, starts, ends), encoding="utf-8")
            programs.run(self._command(voice, prosody), folder, folder / "wave.wav")
            wave, rate_hz = audio.read(folder / "wave.wav")
        times = [(start * _FRAME_S, end * _FRAME_S) for start, end in zip(starts, ends, strict=True)]
        return trimmed(Speech(wave[:, 0], rate_hz, _words(text, asked, times), is_timed=True))

    def _frames(self, asked: labels.Labels, folder: Path) -> list[int]:
        """How many frames the voice gives each label at its own pace."""
        nowhere = [0] * len(asked.lines)
        (folder / "text.lab").write_text(_file(asked.lines, nowhere, nowhere), encoding="utf-8")
        made = folder / "times.lab"
        command = [self._program, "-m", str(self._config.voice_file), "-p", "1", "-od", made.name, "text.lab"]
        programs.run(command, folder, made)
        spans = [line.split()[:2] for line in made.read_text().splitlines()]
        assert len(spans) == len(asked.lines), f"{len(spans)} times for {len(asked.lines)} labels"
        return [round((float(end) - float(start)) / _SHORT_FRAME_TICKS) for start, end in spans]

    def _command(self, voice: str, prosody: Prosody) -> list[str]:
        settings = self._config.voices[voice]
        options = {
            "-m": self._config.voice_file,
            "-ow": "wave.wav",
            "-a": settings.alpha,
            "-b": _POSTFILTER,
            "-g": _GAIN_DB,
            "-fm": round(settings.half_tones + prosody.pitch_semitones, 4),
            # The weight of the contour's global variance, which is a square.
            "-jf": round(prosody.pitch_range**2, 4),
        }
        parts = (str(part) for option in options.items() for part in option)
        return [self._program, "-vp", *parts, "timed.lab"]


def _file(lines: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> str:
    """Labels with their times.

    Without times the engine would take a label that begins with a digit ("0^0-te0+…": no phone before) for
    a time, and swallow it and the next.
    """
    timed = zip(lines, starts, ends, strict=True)
    return "".join(f"{start * _FRAME_TICKS} {end * _FRAME_TICKS} {line}\n" for line, start, end in timed)


def _ends(frames: Sequence[int], rate: float) -> list[int]:
    """Where each label ends, in frames, at another pace: all alike.

    The engine's own option (-r) moves tempo by its states' variances, so that silence takes most of it:
    asked for 1.18 it speaks 1.06 times as fast.
    """
    outer = round(_OUTER_PAUSE_S / _FRAME_S)
    wanted = [min(frames[0], outer), *(count / rate for count in frames[1:-1]), min(frames[-1], outer)]
    ends: list[int] = []
    at = 0.0
    for count in wanted:
        at += count
        ends.append(max(round(at), (ends[-1] if ends else 0) + _STATES))
        at = max(at, ends[-1])
    return ends


def _words(text: str, asked: labels.Labels, times: list[tuple[float, float]]) -> tuple[Word, ...]:
    spans = zip(alignment.tokens(text), asked.words, strict=True)
    return tuple(Word(token.text, times[first][0], times[last][1]) for token, (first, last) in spans)
