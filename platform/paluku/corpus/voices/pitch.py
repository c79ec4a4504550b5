"""Fundamental frequency by autocorrelation: Boersma 1993, "Accurate short-term analysis of the
fundamental frequency", IFA Proceedings 17 (its window correction, without its path search).
"""  # noqa: D205

from typing import NamedTuple

import numpy as np

from paluku.audio import resample

LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
HOP_S, WINDOW_S = 0.01, 0.05
# Enough for the highest pitch's second harmonic; the lag is refined by a parabola.
_RATE_HZ = 8_000
_VOICED = 0.55  # of the correlation at lag 0
_SILENCE_DB = 28.0  # below the loudest frame
# The shortest period within this of the best one: its multiples correlate as well.
_OCTAVE = 0.9


class Pitch(NamedTuple):
    """A contour: `hz[i]` at `i * HOP_S`, 0 where there is no voice."""

    hz: np.ndarray  # float64 [N]

    def at(self, time_s: float) -> float:
        """Hz at a time; 0 where there is no voice."""
        return float(self.hz[min(len(self.hz) - 1, max(0, round(time_s / HOP_S)))]) if len(self.hz) else 0.0

    @property
    def median_hz(self) -> float:
        """Of the voiced frames; 0 without any."""
        voiced = self.hz[self.hz > 0]
        return float(np.median(voiced)) if len(voiced) else 0.0

    @property
    def range_semitones(self) -> float:
        """Between the tenth and the ninetieth percentile of the voiced frames."""
        voiced = self.hz[self.hz > 0]
        if not len(voiced):
            return 0.0
        low, high = np.percentile(voiced, [10, 90])
        return float(12 * np.log2(high / low))


def track(wave: np.ndarray, rate_hz: int) -> Pitch:
    """The contour of a wave `[S]`."""
    narrow = resample(wave, rate_hz, _RATE_HZ).astype(np.float64)
    length, hop = round(WINDOW_S * _RATE_HZ), round(HOP_S * _RATE_HZ)
    padded = np.pad(narrow, (length // 2, length // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    window = np.hanning(length)
    own = _autocorrelation(window[None])[0]
    correlation = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * window)
    power = correlation[:, 0].copy()
    normal = correlation / np.maximum(power, 1e-12)[:, None] / (own / own[0])
    first, last = int(_RATE_HZ / HIGHEST_HZ), int(_RATE_HZ / LOWEST_HZ)
    lags = np.array([_lag(row, first, last) for row in normal])
    loud = power > max(power.max(initial=0.0) * 10 ** (-_SILENCE_DB / 10), 1e-12)
    return Pitch(_smooth(np.where(loud & (lags > 0), _RATE_HZ / np.maximum(lags, 1), 0.0)))


def _smooth(hz: np.ndarray) -> np.ndarray:
    """Median of five: what lasts two frames is noise, or an octave error."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(hz, 2), 5)
    return np.median(around, axis=1)


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """`[N, W]` to lags 0 to `W / 2`, `[N, W / 2]`."""
    spectrum = np.fft.rfft(frames, 2 * frames.shape[1])
    return np.fft.irfft(np.abs(spectrum) ** 2)[:, : frames.shape[1] // 2]


def _lag(correlation: np.ndarray, first: int, last: int) -> float:
    """The period in samples, refined by a parabola; 0 without a clear one."""
    inside = correlation[first - 1 : last + 2]
    peaks = first + np.flatnonzero((inside[1:-1] >= inside[:-2]) & (inside[1:-1] > inside[2:]))
    if not len(peaks) or correlation[peaks].max() < _VOICED:
        return 0.0
    lag = int(peaks[correlation[peaks] >= _OCTAVE * correlation[peaks].max()][0])
    before, here, after = correlation[lag - 1 : lag + 2]
    return lag + 0.5 * (before - after) / (before - 2 * here + after)
