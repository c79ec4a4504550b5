import numpy as np
import pytest

from paluku.evals.align import lag_samples, moved

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.standard_normal(4_000).astype(np.float32)


@pytest.mark.parametrize("lag", [-60, -1, 0, 1, 37, 100])
def test_a_known_delay_is_found_under_noise_and_at_any_level(lag: int) -> None:
    late = moved(NOISE, -lag, len(NOISE)) * 0.1 + 0.05 * RANDOM.standard_normal(len(NOISE))
    assert lag_samples([(NOISE, late)], most_samples=100) == lag


def test_a_delay_beyond_the_bound_is_not_found() -> None:
    late = moved(NOISE, -200, len(NOISE))
    assert abs(lag_samples([(NOISE, late)], most_samples=100)) <= 100


def test_most_clips_outvote_one_that_points_elsewhere_however_loud() -> None:
    good = moved(NOISE, -12, len(NOISE))
    odd = 1_000 * moved(NOISE, -80, len(NOISE))
    assert lag_samples([(NOISE, good), (NOISE, odd), (NOISE, good)], most_samples=100) == 12


def test_silence_has_no_say() -> None:
    silence = np.zeros(4_000, np.float32)
    assert lag_samples([(NOISE, silence), (NOISE, moved(NOISE, -5, 4_000))], most_samples=50) == 5


def test_moving_cuts_and_pads_with_silence() -> None:
    wave = np.arange(1, 6)
    assert moved(wave, 2, 3).tolist() == [3, 4, 5]
    assert moved(wave, 2, 5).tolist() == [3, 4, 5, 0, 0]
    assert moved(wave, -2, 4).tolist() == [0, 0, 1, 2]
    assert moved(wave, 9, 2).tolist() == [0, 0]
    assert moved(wave, -9, 2).tolist() == [0, 0]
