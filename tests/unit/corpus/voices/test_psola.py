"""Pitch is found where it was put, and changing it changes nothing else."""

import numpy as np
import pytest

from paluku.corpus.voices import pitch
from paluku.corpus.voices.psola import reshape

RATE_HZ = 16_000
FORMANT_HZ = 900.0


def vowel(hz: np.ndarray) -> np.ndarray:
    """Glottal pulses at `hz` (per sample) through one resonance of 160 Hz bandwidth."""
    phase = np.cumsum(hz / RATE_HZ)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    time_s = np.arange(800) / RATE_HZ
    response = np.exp(-np.pi * 160 * time_s) * np.sin(2 * np.pi * FORMANT_HZ * time_s)
    wave = np.convolve(pulses, response)[: len(hz)]
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def steady(hz: float, seconds: float = 1.0) -> np.ndarray:
    return vowel(np.full(round(seconds * RATE_HZ), hz))


def glide(low_hz: float, high_hz: float) -> np.ndarray:
    return vowel(np.geomspace(low_hz, high_hz, 2 * RATE_HZ))


def centre_hz(wave: np.ndarray) -> float:
    """The centre of the spectrum's power, which lies at the formant."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    return float((power * np.fft.rfftfreq(len(wave), 1 / RATE_HZ)).sum() / power.sum())


@pytest.mark.parametrize("hz", [70.0, 95.0, 120.0, 180.0, 220.0, 300.0, 400.0])
def test_a_voices_pitch_is_found(hz: float) -> None:
    contour = pitch.track(steady(hz), RATE_HZ)
    assert contour.median_hz == pytest.approx(hz, rel=0.01)
    assert contour.range_semitones < 0.2
    assert (contour.hz > 0).mean() > 0.9


def test_a_glides_range_is_found() -> None:
    # Ten to ninety per cent of an octave.
    assert pitch.track(glide(100, 200), RATE_HZ).range_semitones == pytest.approx(9.6, abs=0.4)


@pytest.mark.parametrize("wave", [np.zeros(8_000, np.float32), np.zeros(0, np.float32)])
def test_silence_has_no_pitch(wave: np.ndarray) -> None:
    contour = pitch.track(wave, RATE_HZ)
    assert contour.median_hz == 0
    assert contour.range_semitones == 0
    assert contour.at(0.1) == 0


def test_noise_has_hardly_any_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    assert (pitch.track(noise, RATE_HZ).hz > 0).mean() < 0.05


def test_nothing_asked_for_is_nothing_done() -> None:
    wave = steady(120)
    assert reshape(wave, RATE_HZ) is wave


@pytest.mark.parametrize("hz", [100.0, 210.0])
@pytest.mark.parametrize("semitones", [-4.0, -1.5, 2.0, 4.0])
def test_the_pitch_moves_and_the_formant_stays(hz: float, semitones: float) -> None:
    wave = steady(hz)
    moved = reshape(wave, RATE_HZ, semitones=semitones)
    assert len(moved) == len(wave)
    assert pitch.track(moved, RATE_HZ).median_hz == pytest.approx(hz * 2 ** (semitones / 12), rel=0.02)
    # A plain resampling would move it by as much as the pitch, 12 % and more.
    assert centre_hz(moved) == pytest.approx(centre_hz(wave), rel=0.05)


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_the_tempo_changes_and_the_pitch_stays(rate: float) -> None:
    wave = steady(130)
    other = reshape(wave, RATE_HZ, rate=rate)
    assert len(other) == round(len(wave) / rate)
    assert pitch.track(other, RATE_HZ).median_hz == pytest.approx(130, rel=0.02)


@pytest.mark.parametrize("pitch_range", [0.5, 1.6])
def test_the_range_is_scaled_around_the_median(pitch_range: float) -> None:
    wave = glide(110, 160)
    before = pitch.track(wave, RATE_HZ)
    after = pitch.track(reshape(wave, RATE_HZ, pitch_range=pitch_range), RATE_HZ)
    assert after.range_semitones == pytest.approx(pitch_range * before.range_semitones, rel=0.12)
    assert after.median_hz == pytest.approx(before.median_hz, rel=0.03)


def test_silence_and_noise_keep_their_level() -> None:
    silence = np.zeros(4_000, np.float32)
    assert not reshape(silence, RATE_HZ, rate=0.9).any()
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE_HZ)).astype(np.float32)
    assert reshape(noise, RATE_HZ, semitones=2).std() == pytest.approx(0.1, rel=0.3)


def test_a_loudness_survives() -> None:
    wave = steady(120)
    for semitones in (-3, 3):
        assert reshape(wave, RATE_HZ, semitones=semitones).std() == pytest.approx(wave.std(), rel=0.3)
