"""Loudness by ITU-R BS.1770-4, and the one gain that brings an utterance to a stated loudness."""

import functools

import numpy as np
from pydantic import Field

from paluku import audio
from paluku.config import Config

BLOCK_S, STEP_S = 0.4, 0.1  # gating blocks, 75 % overlap
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
OFFSET_LU = -0.691  # a 997 Hz sine at full scale reads -3.01
OVERSAMPLING = 4  # BS.1770-4 annex 2, for true peaks
# The weighting rings for this long after a sound: the high-pass at 38 Hz is 100 dB down.
_RINGING_S = 0.2


class LoudnessSettings(Config):
    """EBU R 128's target: loud enough for 16 bits, and 22 dB below full scale for the peaks of speech."""

    target_lufs: float = Field(default=-23.0, ge=-50, le=-10)
    ceiling_dbtp: float = Field(default=-1.0, le=0)  # true peaks stay below: lossy coders overshoot
    max_gain_db: float = Field(default=40.0, ge=0)  # more would only raise a converter's own noise


def integrated_lufs(wave: np.ndarray, rate_hz: int) -> float:
    """Gated loudness of a mono wave `[S]` in LUFS; -70, the absolute gate, where nothing passes it.

    A wave shorter than a gating block (0.4 s) is judged as one block.
    """
    power = _block_powers(_weighted(wave, rate_hz), rate_hz)
    audible = power[_lufs(power) >= ABSOLUTE_GATE_LUFS]
    if not len(audible):
        return ABSOLUTE_GATE_LUFS
    gate = float(_lufs(audible.mean())) + RELATIVE_GATE_LU
    return float(_lufs(audible[_lufs(audible) > gate].mean()))


def true_peak(wave: np.ndarray, rate_hz: int) -> float:
    """The largest magnitude between and at the samples of `[S]`, 4 times oversampled; 0 of nothing."""
    if not len(wave):
        return 0.0
    return float(np.abs(audio.resample(wave, rate_hz, OVERSAMPLING * rate_hz)).max())


def gain_db(wave: np.ndarray, rate_hz: int, lufs: float, settings: LoudnessSettings) -> float:
    """What brings `[S]`, whose loudness is `lufs`, to the target, or if less, its peaks to the ceiling."""
    wanted = min(settings.target_lufs - lufs, settings.max_gain_db)
    peak = float(np.abs(wave).max(initial=0.0))
    # Between samples speech rises by 1 dB, and by 6 dB only if made to: far below it is not looked for.
    if _db(peak) + wanted > settings.ceiling_dbtp - 6.0:
        wanted = min(wanted, settings.ceiling_dbtp - _db(max(peak, true_peak(wave, rate_hz))))
    return wanted


def amplified(wave: np.ndarray, by_db: float) -> np.ndarray:
    """Float32 `[S]`."""
    return wave * np.float32(10 ** (by_db / 20))


def _db(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1e-9)))


def _lufs(power: np.ndarray | float) -> np.ndarray:
    return OFFSET_LU + 10 * np.log10(np.maximum(power, 1e-12))


def _block_powers(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mean square of each gating block `[N]`, from sums over steps of 100 ms."""
    step = round(STEP_S * rate_hz)
    steps_per_block = round(BLOCK_S / STEP_S)
    num_steps = len(wave) // step
    if num_steps < steps_per_block:
        return np.array([np.square(wave).mean()]) if len(wave) else np.zeros(0)
    steps = np.square(wave[: num_steps * step]).reshape(num_steps, step).mean(axis=1)
    return np.lib.stride_tricks.sliding_window_view(steps, steps_per_block).mean(axis=1)


def _weighted(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """The K-weighted wave `[S]`: both filters at once, as one product of spectra."""
    num_fft = 1 << (len(wave) + round(_RINGING_S * rate_hz) - 1).bit_length()
    spectrum = np.fft.rfft(wave, num_fft) * _response(rate_hz, num_fft)
    return np.fft.irfft(spectrum, num_fft)[: len(wave)]


@functools.lru_cache(maxsize=8)  # half a second to half a minute are seven powers of two; 8 MB
def _response(rate_hz: int, num_fft: int) -> np.ndarray:
    """K-weighting at any rate: a high shelf and a high-pass, complex `[num_fft / 2 + 1]`.

    BS.1770-4 gives coefficients for 48 kHz only. These are the analogue prototypes behind them
    (B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES 2018).
    """
    delay = np.exp(-2j * np.pi * np.arange(num_fft // 2 + 1) / num_fft)
    k = np.tan(np.pi * 1681.974450955533 / rate_hz)
    high, q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    band = high**0.4996667741545416
    shelf = [high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k]
    response = _polynomial(shelf, delay) / _polynomial(_poles(k, q), delay)
    k, q = np.tan(np.pi * 38.13547087602444 / rate_hz), 0.5003270373238773
    poles = _poles(k, q)
    response *= poles[0] * _polynomial([1.0, -2.0, 1.0], delay) / _polynomial(poles, delay)
    return response.astype(np.complex64)


def _poles(k: float, q: float) -> list[float]:
    return [1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k]


def _polynomial(coefficients: list[float], x: np.ndarray) -> np.ndarray:
    return coefficients[0] + coefficients[1] * x + coefficients[2] * x * x
