"""Sound that is made like speech, and a detector that hears it by its level."""

import functools

import numpy as np

from paluku.corpus.preparation import quality


def speech_like(seed: int, duration_s: float, rate_hz: int = 16_000) -> np.ndarray:
    """Syllables of 0.1 to 0.3 s, each a glottal pulse train under its own formants: float32 `[S]`."""
    return _spoken(seed, duration_s, rate_hz).copy()


@functools.lru_cache(maxsize=64)
def _spoken(seed: int, duration_s: float, rate_hz: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < duration_s * rate_hz:
        parts.append(_syllable(rng, rate_hz))
    return np.concatenate(parts)[: round(duration_s * rate_hz)]


def _syllable(rng: np.random.Generator, rate_hz: int) -> np.ndarray:
    time_s = np.arange(round(rng.uniform(0.1, 0.3) * rate_hz)) / rate_hz
    pitch_hz, formants_hz = rng.uniform(90, 220), rng.uniform([250, 800, 2_000], [800, 2_300, 3_200])
    wave = np.zeros(len(time_s))
    for harmonic_hz in np.arange(pitch_hz, min(rate_hz / 2, 7_500), pitch_hz):
        gain = sum(1 / (1 + ((harmonic_hz - f) / 120) ** 2) for f in formants_hz) + 0.01
        wave += gain * np.sin(2 * np.pi * harmonic_hz * time_s + rng.uniform(0, 6))
    envelope = np.sin(np.pi * np.arange(len(time_s)) / len(time_s)) ** 0.5
    return (0.05 * wave * envelope).astype(np.float32)


class LevelDetector:
    """Implements `prepare.Detector`: a window is speech when its level passes a bound."""

    window_s = 0.032

    def __init__(self, bound_dbfs: float = -45.0) -> None:
        self._least_power = 10 ** (bound_dbfs / 10)

    def probabilities(self, wave: np.ndarray, rate_hz: int) -> np.ndarray:
        powers = quality.window_powers(wave, rate_hz, self.window_s)
        return (powers > self._least_power).astype(np.float32)
