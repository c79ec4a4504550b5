"""What is done to a voice before an encoder hears it."""

import numpy as np
import pytest

from paluku.training.disturbances import Disturbances, disturbed

RATE_HZ = 16_000
NONE = {"noise_share": 0.0, "band_share": 0.0, "gain_db": (0.0, 0.0)}
WAVE = (0.1 * np.random.default_rng(0).standard_normal(RATE_HZ)).astype(np.float32)


def heard(seed: int = 0, wave: np.ndarray = WAVE, **how: object) -> np.ndarray:
    disturbances = Disturbances.model_validate(NONE | how)
    return disturbed(wave, RATE_HZ, disturbances, np.random.default_rng(seed))


def test_nothing_asked_for_changes_nothing() -> None:
    np.testing.assert_allclose(heard(), WAVE, atol=1e-6)


@pytest.mark.parametrize("snr_db", [5.0, 20.0])
def test_a_noise_is_as_loud_as_it_should_be(snr_db: float) -> None:
    noise = heard(noise_share=1.0, snr_db=(snr_db, snr_db)) - WAVE
    measured_db = 10 * np.log10(np.square(WAVE).sum() / np.square(noise).sum())
    assert measured_db == pytest.approx(snr_db, abs=0.1)


def test_a_brown_noise_falls_by_six_decibels_an_octave() -> None:
    silence = 1e-3 * np.ones_like(WAVE)
    how = {"noise_share": 1.0, "snr_db": (-20.0, -20.0), "slope_db_per_octave": (-6.0, -6.0)}
    power = np.square(np.abs(np.fft.rfft(heard(wave=silence, **how))))
    one, two = power[500:1_000].mean(), power[1_000:2_000].mean()
    assert 10 * np.log10(one / two) == pytest.approx(6, abs=0.7)


def test_a_narrow_band_has_nothing_outside() -> None:
    spectrum = np.abs(np.fft.rfft(heard(band_share=1.0, lowest_hz=(300, 300), highest_hz=(3_400, 3_400))))
    inside = spectrum[300:3_401].mean()
    assert max(spectrum[:300].max(), spectrum[3_401:].max()) < 1e-3 * inside


def test_too_loud_is_clipped() -> None:
    loud = heard(gain_db=(30.0, 30.0))
    assert np.abs(loud).max() == 1.0
    assert (np.abs(loud) == 1.0).mean() > 0.5


def test_it_depends_on_the_seed_alone() -> None:
    how = {"noise_share": 1.0, "band_share": 1.0, "gain_db": (-6.0, 6.0)}
    assert np.array_equal(heard(3, **how), heard(3, **how))
    assert not np.array_equal(heard(3, **how), heard(4, **how))
