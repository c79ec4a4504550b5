"""Festival's Telugu voice NSK: recorded male diphones at 16 kHz, GPL-2 (Debian: festvox-te-nsk).

https://www.cstr.ed.ac.uk/projects/festival/ and https://festival-te.sourceforge.net
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from paluku import audio
from paluku.config import Config
from paluku.corpus.voices import alignment, programs
from paluku.corpus.voices.expression import express, silent_between, trimmed
from paluku.corpus.voices.port import Prosody, Speech, Word
from paluku.errors import AudioError, ConfigError, ServiceError

PACKAGES = "festival festival-te festvox-te-nsk"
RATE_HZ = 16_000
_DATA = Path("/usr/share/festival/voices/telugu/telugu_NSK_diphone")

# As Debian ships it, this voice leaves Int_Method unset and dies with "Feature Int_Method not defined".
# The tokens' ends are printed from the utterance's own structure; only they have words below them.
_SCRIPT = """(voice_telugu_NSK_diphone)
(Parameter.set 'Int_Method 'Simple)
(set! int_simple_params '((f0_mean {f0_hz:.2f}) (f0_std {f0_std_hz:.2f})))
(Parameter.set 'Duration_Stretch {stretch:.4f})
(set! spoken (Utterance Text "{text}"))
(utt.synth spoken)
(utt.save.wave spoken "wave.wav" 'riff)
(set! file (fopen "times" "w"))
(mapcar
  (lambda (token)
    (if (item.daughters token)
      (format file "%f %f\\n"
        (item.feat token "daughter1.word_start")
        (item.feat token "daughtern.word_end"))))
  (utt.relation.items spoken 'Token))
(fclose file)
"""

# What is left of a text: letters, digits, and the two marks at which the voice pauses.
_FULL_STOPS = str.maketrans(dict.fromkeys("?!।॥…", ".") | dict.fromkeys(";:", ","))
_DIGITS = str.maketrans("౦౧౨౩౪౫౬౭౮౯", "0123456789")
_UNSAYABLE = re.compile(r"[^\u0c00-\u0c7f0-9 ,.]")


class FestivalVoice(Config):
    """NSK made another speaker."""

    f0_hz: float = Field(default=120.0, gt=50, lt=400)
    f0_std_hz: float = Field(default=14.0, ge=0, lt=100)
    stretch: float = Field(default=1.1, gt=0.3, lt=3)  # of durations; the voice's own is 1.4
    # Above 1 a shorter vocal tract: the wave is played faster, and spoken lower and slower for that.
    formants: float = Field(default=1.0, gt=0.7, lt=1.4)


_VOICES = {
    "nsk_m1": FestivalVoice(f0_hz=120, f0_std_hz=14, stretch=1.10),
    "nsk_m2": FestivalVoice(f0_hz=100, f0_std_hz=11, stretch=1.18, formants=0.90),
    "nsk_m3": FestivalVoice(f0_hz=138, f0_std_hz=18, stretch=1.00, formants=1.07),
    "nsk_m4": FestivalVoice(f0_hz=110, f0_std_hz=20, stretch=1.05, formants=0.95),
    "nsk_f1": FestivalVoice(f0_hz=185, f0_std_hz=24, stretch=1.05, formants=1.18),
    "nsk_f2": FestivalVoice(f0_hz=215, f0_std_hz=30, stretch=0.98, formants=1.24),
}


class FestivalConfig(Config):
    """Festival's program and the speakers made of its voice."""

    program: str = "festival"
    voices: dict[str, FestivalVoice] = _VOICES


class Festival:
    """Implements `port.Engine`.

    Raises:
        ServiceError: when the program or the voice is not installed.
    """

    def __init__(self, config: FestivalConfig | None = None) -> None:
        self._config = config or FestivalConfig()
        self._program = programs.find(self._config.program, PACKAGES)
        if not _DATA.is_dir():
            raise ServiceError(
                f"Festival's Telugu voice is not installed ({_DATA} does not exist); "
                f"run: apt-get install -y --no-install-recommends {PACKAGES}"
            )

    @property
    def name(self) -> str:
        """Of the engine."""
        return "festival"

    @property
    def voices(self) -> tuple[str, ...]:
        """The names in its configuration."""
        return tuple(self._config.voices)

    def speak(self, text: str, voice: str, prosody: Prosody) -> Speech:
        """One sentence, with the voice's own word timings. It reads digits, but no Latin letters.

        Raises:
            ConfigError: for a voice that its configuration does not have.
            AudioError: when it cannot say the text.
        """
        if voice not in self._config.voices:
            raise ConfigError(f"Festival has no voice {voice!r}; choose one of: {', '.join(self.voices)}")
        return express(self._say, text, voice, prosody)

    def _say(self, text: str, voice: str, prosody: Prosody) -> Speech:
        words = [(word, _sayable(word.text)) for word in alignment.tokens(text)]
        if not words:
            raise AudioError(f"Festival says nothing for {text[:40]!r}; give it a text with letters")
        settings = self._config.voices[voice]
        with tempfile.TemporaryDirectory(prefix="paluku-festival-") as named:
            folder = Path(named)
            script = _script(" ".join(sayable for _, sayable in words), settings, prosody)
            (folder / "script.scm").write_text(script, encoding="utf-8")
            programs.run([self._program, "-b", "script.scm"], folder, folder / "wave.wav")
            wave, rate_hz = audio.read(folder / "wave.wav")
            times = [[float(n) for n in line.split()] for line in (folder / "times").read_text().splitlines()]
        # Played `formants` times as fast; what lies above the new half rate is lost or empty.
        wave = audio.resample(wave[:, 0], round(rate_hz * settings.formants), RATE_HZ)
        seconds = [(start / settings.formants, end / settings.formants) for start, end in times]
        return _timed(text, [word for word, _ in words], seconds, wave)


def _sayable(word: str) -> str:
    if re.search(r"[^\W\d_\u0c00-\u0c7f]", word):
        raise AudioError(f"Festival's Telugu voice cannot say {word[:40]!r}; write it in Telugu letters")
    marked = word.translate(_FULL_STOPS).translate(_DIGITS).replace("\u200c", "").replace("\u200d", "")
    # Marks within a word would make two tokens of it, or a number with a point.
    letters = _UNSAYABLE.sub("", marked)
    closing = "." if letters.endswith(".") else "," if letters.endswith(",") else ""
    return letters.replace(".", "").replace(",", "") + closing


def _script(text: str, voice: FestivalVoice, prosody: Prosody) -> str:
    assert not re.search(r'["\\()]', text), text
    raised = 2 ** (prosody.pitch_semitones / 12) / voice.formants
    return _SCRIPT.format(
        f0_hz=voice.f0_hz * raised,
        f0_std_hz=voice.f0_std_hz * raised * prosody.pitch_range,
        stretch=voice.stretch * voice.formants / prosody.rate,
        text=text,
    )


def _timed(
    text: str, words: Sequence[alignment.Token], times: Sequence[tuple[float, float]], wave: np.ndarray
) -> Speech:
    """With the tokens' times where the voice saw the same words as we do, which it nearly always does."""
    if len(times) != len(words):
        return Speech(wave, RATE_HZ, alignment.estimate(text, wave, RATE_HZ), is_timed=False)
    placed = tuple(Word(word.text, *span) for word, span in zip(words, times, strict=True))
    return trimmed(silent_between(Speech(wave, RATE_HZ, placed, is_timed=True)))
