"""What a speech synthesiser is to the rest of Paluku, and what is done to any synthetic wave."""

from typing import NamedTuple, Protocol

import numpy as np

# Engines and voices differ by 15 dB; real recordings lie around here.
LEVEL_DBFS = -23.0
PEAK = 0.95

WINDOW_S = 0.01
# Speech lies within this of its loudest moment; below it are an engine's own pauses and its dither.
SPEECH_RANGE_DB = 40.0


class Synthesiser(Protocol):
    """Text in, speech out."""

    @property
    def voices(self) -> tuple[str, ...]:
        """Names that `speak` takes."""
        ...

    def speak(self, text: str, voice: str) -> tuple[np.ndarray, int]:
        """The wave, float32 `[S]`, and its rate in Hz. The same arguments give the same samples."""
        ...


class Bounds(NamedTuple):
    """Where speech lies in a wave, in samples."""

    start: int
    end: int


def speech_bounds(wave: np.ndarray, rate_hz: int) -> Bounds:
    """First and last audible sample of `[S]`, to 10 ms. Silence has empty bounds at 0."""
    window = round(WINDOW_S * rate_hz)
    padded = np.pad(wave, (0, -len(wave) % window)).reshape(-1, window)
    power = np.square(padded, dtype=np.float64).mean(axis=1)
    if not power.any():
        return Bounds(0, 0)
    audible = np.flatnonzero(power >= power.max() * 10 ** (-SPEECH_RANGE_DB / 10))
    return Bounds(int(audible[0]) * window, min(len(wave), (int(audible[-1]) + 1) * window))


def at_level(wave: np.ndarray) -> np.ndarray:
    """The wave `[S]` scaled to `LEVEL_DBFS` (RMS), or to `PEAK` where that is lower. Silence stays."""
    rms = float(np.sqrt(np.square(wave, dtype=np.float64).mean())) if len(wave) else 0.0
    if rms == 0.0:
        return wave
    gain = min(10 ** (LEVEL_DBFS / 20) / rms, PEAK / float(np.abs(wave).max()))
    return (wave * np.float32(gain)).astype(np.float32)
