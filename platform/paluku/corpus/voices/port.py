"""What a speech synthesis engine is to the rest of Paluku."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from paluku.config import Config


class Prosody(Config):
    """How a sentence is said, relative to the voice's own way."""

    rate: float = Field(default=1.0, gt=0.3, lt=3.0)  # of speaking: 1.2 is a fifth faster
    pitch_semitones: float = Field(default=0.0, ge=-12, le=12)
    pitch_range: float = Field(default=1.0, ge=0, le=3)  # 0 is monotone
    energy_db: float = Field(default=0.0, ge=-12, le=12)
    pauses: float = Field(default=1.0, ge=0.25, le=4)  # how long the pauses at punctuation are
    laugh: bool = False  # one is inserted before the sentence


class Word(NamedTuple):
    """One word of a text and where it lies in the wave."""

    text: str
    start_s: float
    end_s: float


class Speech(NamedTuple):
    """A sentence that was spoken."""

    wave: np.ndarray  # float32 [S]
    rate_hz: int
    words: tuple[Word, ...]  # in the text's order, not overlapping
    is_timed: bool  # words stand where the engine says; else estimated from the wave and the letters


@runtime_checkable
class Engine(Protocol):
    """Text in, speech out. Law: the same arguments give the same samples, whatever was said before."""

    @property
    def name(self) -> str:
        """Short, lower case: espeak, festival, hts, vits."""
        ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Names that `speak` takes."""
        ...

    def speak(self, text: str, voice: str, prosody: Prosody) -> Speech:
        """One sentence.

        Raises:
            ConfigError: for a voice that the engine does not have.
            AudioError: when it cannot say the text.
            ServiceError: when its program, library or weights are not installed; it says how to get them.
        """
        ...
