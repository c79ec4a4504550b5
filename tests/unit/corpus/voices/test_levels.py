import numpy as np
import pytest

from paluku.corpus.voices.levels import LEVEL_DBFS, PEAK, amplified, at_level, speech_bounds

RATE_HZ = 16_000


def noise(seconds: float, loudness: float) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(int(seconds * RATE_HZ))
    return (loudness * samples).astype(np.float32)


def level_dbfs(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wave, dtype=np.float64).mean()))


def test_bounds_are_those_of_the_sound_to_10_ms() -> None:
    speech = noise(0.5, 0.1)
    wave = np.concatenate([noise(0.3, 1e-5), speech, noise(0.2, 1e-5)])
    bounds = speech_bounds(wave, RATE_HZ)
    assert bounds.start == pytest.approx(0.3 * RATE_HZ, abs=0.01 * RATE_HZ)
    assert bounds.end == pytest.approx(0.8 * RATE_HZ, abs=0.01 * RATE_HZ)


def test_bounds_never_leave_the_wave() -> None:
    assert speech_bounds(noise(0.1234, 0.1), RATE_HZ) == (0, int(0.1234 * RATE_HZ))


@pytest.mark.parametrize("samples", [0, 1, 1000])
def test_silence_has_no_speech_and_keeps_its_level(samples: int) -> None:
    silence = np.zeros(samples, np.float32)
    assert speech_bounds(silence, RATE_HZ) == (0, 0)
    np.testing.assert_array_equal(at_level(silence), silence)


@pytest.mark.parametrize("loudness", [1e-4, 0.01, 0.3])
def test_any_voice_comes_out_at_one_level(loudness: float) -> None:
    assert level_dbfs(at_level(noise(0.5, loudness))) == pytest.approx(LEVEL_DBFS, abs=1e-3)


def test_a_click_is_held_below_full_scale() -> None:
    wave = np.zeros(RATE_HZ, np.float32)
    wave[8000] = 0.5
    levelled = at_level(wave)
    assert levelled.max() == pytest.approx(PEAK)
    assert level_dbfs(levelled) < LEVEL_DBFS


def test_a_gain_is_what_it_says_until_full_scale() -> None:
    wave = noise(0.5, 0.05)
    assert level_dbfs(amplified(wave, -6)) - level_dbfs(wave) == pytest.approx(-6, abs=1e-3)
    assert np.abs(amplified(wave, 40)).max() == pytest.approx(PEAK)
