"""What is measured of, and done to, any synthetic wave: where speech lies in it, and its level."""

from typing import NamedTuple

import numpy as np

# Engines and voices differ by 15 dB; real recordings lie around here.
LEVEL_DBFS = -23.0
PEAK = 0.95

WINDOW_S = 0.01
# Speech lies within this of its loudest moment; below it are an engine's own pauses and its dither.
SPEECH_RANGE_DB = 40.0


class Bounds(NamedTuple):
    """Where speech lies in a wave, in samples."""

    start: int
    end: int


def audible(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Which 10 ms windows of `[S]` hold sound: bool `[ceil(S / window)]`. Silence has none."""
    window = round(WINDOW_S * rate_hz)
    padded = np.pad(wave, (0, -len(wave) % window)).reshape(-1, window)
    power = np.square(padded, dtype=np.float64).mean(axis=1)
    if not power.any():
        return np.zeros(len(power), bool)
    return power >= power.max() * 10 ** (-SPEECH_RANGE_DB / 10)


def speech_bounds(wave: np.ndarray, rate_hz: int) -> Bounds:
    """First and last audible sample of `[S]`, to 10 ms. Silence has empty bounds at 0."""
    window = round(WINDOW_S * rate_hz)
    heard = np.flatnonzero(audible(wave, rate_hz))
    if not len(heard):
        return Bounds(0, 0)
    return Bounds(int(heard[0]) * window, min(len(wave), (int(heard[-1]) + 1) * window))


def at_level(wave: np.ndarray) -> np.ndarray:
    """The wave `[S]` scaled to `LEVEL_DBFS` (RMS), or to `PEAK` where that is lower. Silence stays."""
    rms = float(np.sqrt(np.square(wave, dtype=np.float64).mean())) if len(wave) else 0.0
    if rms == 0.0:
        return wave
    return amplified(wave, LEVEL_DBFS - 20 * float(np.log10(rms)))


def amplified(wave: np.ndarray, gain_db: float) -> np.ndarray:
    """The wave `[S]` with a gain, held below `PEAK`. Silence stays."""
    peak = float(np.abs(wave).max()) if len(wave) else 0.0
    if peak == 0.0:
        return wave
    return (wave * np.float32(min(10 ** (gain_db / 20), PEAK / peak))).astype(np.float32)
