"""BS.1770 against its own calibration and against pyloudnorm; the gain meets its target and its ceiling."""

import numpy as np
import pyloudnorm
import pytest

from paluku.corpus.preparation.loudness import (
    LoudnessSettings,
    amplified,
    gain_db,
    integrated_lufs,
    true_peak,
)
from tests.fakes.speech import speech_like

SETTINGS = LoudnessSettings()


def sine(frequency_hz: float, rate_hz: int, seconds: float = 3.0, phase: float = 0.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz + phase).astype(
        np.float32
    )


def test_the_standards_calibration() -> None:
    assert integrated_lufs(sine(997, 48_000), 48_000) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_it_agrees_with_pyloudnorm(rate_hz: int) -> None:
    quiet, loud = 0.003 * speech_like(1, 2.0, rate_hz), speech_like(2, 3.0, rate_hz)
    wave = np.concatenate([np.zeros(rate_hz, np.float32), quiet, loud])
    reference = pyloudnorm.Meter(rate_hz, filter_class="DeMan").integrated_loudness(wave.astype(np.float64))
    assert integrated_lufs(wave, rate_hz) == pytest.approx(reference, abs=0.02)


def test_silence_lies_at_the_gate_and_a_short_wave_is_one_block() -> None:
    assert integrated_lufs(np.zeros(16_000, np.float32), 16_000) == -70
    assert integrated_lufs(np.zeros(0, np.float32), 16_000) == -70
    assert integrated_lufs(sine(997, 48_000, 0.3), 48_000) == pytest.approx(-3.01, abs=0.2)


@pytest.mark.parametrize("level", [0.01, 0.3, 3.0])
def test_the_gain_meets_the_target(level: float) -> None:
    wave = level * speech_like(3, 3.0)
    lufs = integrated_lufs(wave, 16_000)
    levelled = amplified(wave, gain_db(wave, 16_000, lufs, SETTINGS))
    assert integrated_lufs(levelled, 16_000) == pytest.approx(SETTINGS.target_lufs, abs=0.01)
    assert levelled.dtype == np.float32


def test_true_peaks_stay_below_the_ceiling() -> None:
    wave = 1e-3 * speech_like(4, 3.0)
    wave[10_000:10_004] = [0.5, 0.7, 0.7, 0.5]  # a click whose top lies between two samples
    by_db = gain_db(wave, 16_000, integrated_lufs(wave, 16_000), SETTINGS)
    levelled = amplified(wave, by_db)
    assert true_peak(levelled, 16_000) == pytest.approx(10 ** (SETTINGS.ceiling_dbtp / 20), rel=1e-3)
    assert np.abs(levelled).max() < true_peak(levelled, 16_000)


def test_a_true_peak_lies_between_the_samples() -> None:
    wave = sine(4_000, 16_000, phase=np.pi / 4)  # sampled at 0.71 of its height only
    assert np.abs(wave).max() == pytest.approx(0.7071, abs=1e-3)
    assert true_peak(
        wave[2_000:-2_000] * np.hanning(len(wave) - 4_000).astype(np.float32), 16_000
    ) == pytest.approx(1, abs=0.01)


def test_noise_is_not_raised_without_bound() -> None:
    wave = 1e-6 * speech_like(5, 1.0)
    assert gain_db(wave, 16_000, integrated_lufs(wave, 16_000), SETTINGS) == SETTINGS.max_gain_db
