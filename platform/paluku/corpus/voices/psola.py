"""Another tempo, pitch and pitch range for a wave, its formants kept: TD-PSOLA.

Moulines & Charpentier 1990, "Pitch-synchronous waveform processing techniques", Speech Communication 9.
Two-period grains around each glottal pulse are laid out anew, closer for a higher voice.
"""

from typing import NamedTuple

import numpy as np

from paluku.corpus.voices import pitch

# Where there is no voice, grains come at this pace.
_UNVOICED_S = 0.005
# How far a pulse may lie from where the last period foretells it.
_JITTER = 0.2


class _Grain(NamedTuple):
    at: int  # sample
    period: int  # samples; half the grain
    is_voiced: bool


def reshape(
    wave: np.ndarray,
    rate_hz: int,
    *,
    rate: float = 1.0,
    semitones: float = 0.0,
    pitch_range: float = 1.0,
) -> np.ndarray:
    """The wave float32 `[S]` spoken `rate` times as fast: `[round(S / rate)]`.

    The pitch is raised by `semitones`, its distance (in semitones) from the median scaled by `pitch_range`.
    """
    if (rate, semitones, pitch_range) == (1.0, 0.0, 1.0) or not len(wave):
        return wave
    contour = pitch.track(wave, rate_hz)
    grains = _grains(wave, rate_hz, contour)
    places = np.array([grain.at for grain in grains])
    out = np.zeros(round(len(wave) / rate), np.float64)
    weights = np.zeros_like(out)
    at = 0.0
    while at < len(out):
        grain = grains[_nearest(places, at * rate)]
        _lay(wave, grain, round(at), out, weights)
        at += _step(grain, rate_hz, contour.median_hz, semitones, pitch_range)
    return (out / np.maximum(weights, 0.1)).astype(np.float32)


def _grains(wave: np.ndarray, rate_hz: int, contour: pitch.Pitch) -> list[_Grain]:
    """Pulses of the voice (its largest peaks of one sign), and a steady pace between."""
    signed = wave if wave.max() >= -wave.min() else -wave
    grains: list[_Grain] = []
    at = 0
    while at < len(wave):
        hz = contour.at(at / rate_hz)
        period = round(rate_hz / hz if hz else _UNVOICED_S * rate_hz)
        if hz:
            follows = bool(grains) and grains[-1].is_voiced
            reach = round(_JITTER * period)
            start = max(at - reach, 0) if follows else at
            at = start + int(signed[start : (at + reach + 1) if follows else at + period].argmax())
        grains.append(_Grain(at, period, hz > 0))
        at += period
    return grains


def _nearest(places: np.ndarray, at: float) -> int:
    after = min(int(np.searchsorted(places, at)), len(places) - 1)
    before = max(after - 1, 0)
    return before if at - places[before] < places[after] - at else after


def _step(grain: _Grain, rate_hz: int, median_hz: float, semitones: float, pitch_range: float) -> float:
    """Samples to the next grain."""
    if not grain.is_voiced:
        return grain.period
    ratio = (rate_hz / grain.period / median_hz) ** pitch_range * 2 ** (semitones / 12)
    return rate_hz / (median_hz * ratio)


def _lay(wave: np.ndarray, grain: _Grain, at: int, out: np.ndarray, weights: np.ndarray) -> None:
    """Add a windowed grain around `at`, cut at both waves' ends."""
    before = min(grain.period, grain.at, at)
    after = min(grain.period, len(wave) - grain.at, len(out) - at)
    if after <= 0:
        return
    window = np.hanning(2 * grain.period + 1)[grain.period - before : grain.period + after]
    out[at - before : at + after] += wave[grain.at - before : grain.at + after] * window
    weights[at - before : at + after] += window
