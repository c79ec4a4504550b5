"""Known noise, known bandwidth, and every reason to leave an utterance out."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import soxr

from paluku.corpus.preparation import quality
from paluku.corpus.preparation.quality import Limits, Measures, UnusableError
from tests.fakes.speech import speech_like

RATE_HZ, WINDOW_S = 16_000, 0.032
GOOD = Measures(
    duration_s=5,
    level_dbfs=-25,
    speech_s=4,
    silence_share=0.2,
    clipped_share=0,
    snr_db=30,
    bandwidth_hz=7_000,
)


def noise_of(kind: str, num_samples: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    white = np.fft.rfft(rng.standard_normal(num_samples))
    if kind == "pink":
        white /= np.sqrt(np.maximum(np.arange(len(white)), 20))
    wave = np.fft.irfft(white, num_samples)
    return wave / wave.std()


def speech_between_silences() -> tuple[np.ndarray, np.ndarray]:
    """Two seconds of speech amid one of silence, and which windows hold it."""
    wave = np.pad(speech_like(7, 2.048), 16_384)
    is_speech = np.zeros(len(wave) // 512, bool)
    is_speech[32:-32] = True
    return wave, is_speech


@pytest.mark.parametrize("kind", ["white", "pink"])
@pytest.mark.parametrize("ratio_db", [0, 10, 20, 30, 40])
def test_known_mixtures_are_measured_within_one_and_a_half_decibels(kind: str, ratio_db: int) -> None:
    wave, is_speech = speech_between_silences()
    power = np.square(wave[np.repeat(is_speech, 512)]).mean()
    mixture = wave + noise_of(kind, len(wave)) * np.sqrt(power) * 10 ** (-ratio_db / 20)
    powers = quality.window_powers(mixture, RATE_HZ, WINDOW_S)
    assert quality.snr_db(powers, is_speech) == pytest.approx(ratio_db, abs=1.5)


def test_a_click_in_the_pauses_is_no_noise() -> None:
    wave, is_speech = speech_between_silences()
    wave = wave + 1e-3 * noise_of("white", len(wave)).astype(np.float32)
    quiet = quality.snr_db(quality.window_powers(wave, RATE_HZ, WINDOW_S), is_speech)
    wave[5_000:6_000] += 0.5
    assert quality.snr_db(quality.window_powers(wave, RATE_HZ, WINDOW_S), is_speech) == pytest.approx(
        quiet, abs=0.5
    )


def test_without_pauses_the_quietest_windows_stand_for_noise() -> None:
    powers = np.array([1e-4] * 5 + [1e-1] * 45)
    assert quality.snr_db(powers, np.ones(50, bool)) == pytest.approx(29.5, abs=0.5)


def test_the_measure_has_ends() -> None:
    assert quality.snr_db(np.zeros(50), np.zeros(50, bool)) == quality.MIN_SNR_DB
    assert quality.snr_db(np.repeat([0.0, 1.0], 25), np.repeat([False, True], 25)) == quality.MAX_SNR_DB


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050])
def test_windows_have_their_mean_powers(rate_hz: int) -> None:
    wave = speech_like(8, 40.5, rate_hz)  # more than is taken at once
    edges = [min(round(k * WINDOW_S * rate_hz), len(wave)) for k in range(int(np.ceil(40.5 / WINDOW_S)) + 1)]
    expected = [np.square(wave[a:b]).mean() for a, b in pairwise(edges)]
    np.testing.assert_allclose(quality.window_powers(wave, rate_hz, WINDOW_S), expected, rtol=1e-4)
    assert len(quality.window_powers(wave[:0], rate_hz, WINDOW_S)) == 0


@pytest.mark.parametrize("low_rate_hz", [6_000, 8_000, 12_000])
def test_sound_that_was_once_narrower_shows_it(low_rate_hz: int) -> None:
    for wave in (speech_like(9, 3.0), noise_of("white", 48_000).astype(np.float32)):
        narrow = soxr.resample(soxr.resample(wave, RATE_HZ, low_rate_hz), low_rate_hz, RATE_HZ)
        assert low_rate_hz * 0.42 <= quality.bandwidth_hz(narrow, RATE_HZ) <= low_rate_hz * 0.53


def test_full_band_sound_and_silence() -> None:
    assert quality.bandwidth_hz(noise_of("white", 48_000).astype(np.float32), RATE_HZ) > 7_900
    assert quality.bandwidth_hz(np.zeros(48_000, np.float32), RATE_HZ) == 0
    assert quality.bandwidth_hz(np.ones(100, np.float32), RATE_HZ) == 0


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("short", {"duration_s": 0.39}),
        ("long", {"duration_s": 30.01}),
        ("silent", {"level_dbfs": -61}),
        ("no_speech", {"speech_s": 0.19}),
        ("clipped", {"clipped_share": 0.02}),
        ("noisy", {"snr_db": 4.9}),
        ("narrow", {"bandwidth_hz": 2_000}),
    ],
)
def test_each_limit_has_its_reason(reason: str, change: dict[str, float]) -> None:
    quality.judge(GOOD, Limits())
    with pytest.raises(UnusableError, match=reason) as caught:
        quality.judge(GOOD._replace(**change), Limits())
    assert pickle.loads(pickle.dumps(caught.value)).reason == reason


def test_a_wave_alone_is_checked_for_length_and_level() -> None:
    quality.check(speech_like(1, 1.0), RATE_HZ, Limits())
    for reason, wave in (
        ("short", np.ones(10)),
        ("long", np.ones(31 * RATE_HZ)),
        ("silent", np.zeros(RATE_HZ)),
    ):
        with pytest.raises(UnusableError, match=reason):
            quality.check(wave, RATE_HZ, Limits())
