import numpy as np
import pytest

from paluku.evals.s2s_sound import (
    Change,
    is_going_on,
    manner,
    middle_of_silence,
    speaking,
    stops_after_s,
)

RATE_HZ = 16_000


def pulses(seconds: float, pitch_hz: float, peak: float = 0.3) -> np.ndarray:
    """A voice without a mouth: a few harmonics of one pitch."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    harmonics = sum(np.sin(2 * np.pi * n * pitch_hz * time_s) / n for n in range(1, 6))
    return (peak * np.asarray(harmonics) / 2).astype(np.float32)


def active(*spans: tuple[int, int], length: int = 300) -> np.ndarray:
    found = np.zeros(length, bool)
    for first, last in spans:
        found[first:last] = True
    return found


def test_speech_is_found_to_a_window_and_clicks_are_none() -> None:
    wave = np.zeros(RATE_HZ, np.float32)
    wave[3200:8000] = pulses(0.3, 150)
    wave[12_000:12_160] = 0.5  # 10 ms
    assert np.flatnonzero(speaking(wave, RATE_HZ)).tolist() == list(range(20, 50))


def test_what_lies_below_minus_45_db_is_silence() -> None:
    loud, soft = (np.full(8000, 10 ** (db / 20), np.float32) for db in (-44, -46))
    assert speaking(loud, RATE_HZ)[2:-2].all()
    assert not speaking(soft, RATE_HZ).any()
    assert len(speaking(np.zeros(0, np.float32), RATE_HZ)) == 0


@pytest.mark.parametrize(
    ("spans", "bounds", "middle"),
    [
        ([(0, 10), (14, 20), (30, 40)], (0, 40), 25),  # the longest
        ([(10, 20)], (0, 30), 5),  # of two alike the first
        ([(0, 10)], (5, 30), 20),  # up to the end
        ([(0, 30)], (5, 30), 30),  # none
        ([], (7, 7), 7),
    ],
)
def test_replies_are_told_apart_in_the_middle_of_the_longest_silence(
    spans: list[tuple[int, int]], bounds: tuple[int, int], middle: int
) -> None:
    assert middle_of_silence(active(*spans), *bounds) == middle


def test_a_reply_has_stopped_when_it_stays_silent() -> None:
    heard = active((50, 112), (130, 140), (220, 240))
    assert stops_after_s(heard, 1.0, 2.0) == pytest.approx(0.4)  # the pause at 1.12 s is none
    assert stops_after_s(heard, 1.0, 0.3) is None
    assert stops_after_s(active((0, 300)), 1.0, 1.0) is None
    assert stops_after_s(heard, 1.45, 1.0) == 0.0


def test_a_reply_goes_on_at_a_comma_and_not_long_after_its_end() -> None:
    heard = active((50, 100))
    assert is_going_on(heard, 0.9)
    assert is_going_on(heard, 1.3)
    assert not is_going_on(heard, 1.6)
    assert not is_going_on(heard, 0.4)


def test_manner_says_rate_pitch_and_energy() -> None:
    plain = manner(pulses(1.0, 120), RATE_HZ, "అఆఇఈఉఊఎఏఐఒ")
    assert plain is not None
    assert plain.rate == pytest.approx(10, rel=0.05)
    assert plain.pitch_hz == pytest.approx(120, rel=0.01)
    quick = manner(pulses(0.5, 120 * 2 ** (3 / 12), peak=0.6), RATE_HZ, "అఆఇఈఉఊఎఏఐఒ")
    assert quick is not None
    neutral = plain._replace(range_semitones=2.0)
    change = quick._replace(range_semitones=3.0).against(neutral)
    assert change is not None
    expected = Change(rate=2.0, pitch_semitones=3.0, pitch_range=1.5, energy_db=20 * np.log10(2))
    np.testing.assert_allclose(change, expected, rtol=0.05)


def test_a_pause_between_words_is_no_speaking_time() -> None:
    paused = np.concatenate([pulses(0.5, 120), np.zeros(8000, np.float32), pulses(0.5, 120)])
    whole, with_pause = (manner(wave, RATE_HZ, "అఆఇఈ") for wave in (pulses(1.0, 120), paused))
    assert whole is not None
    assert with_pause is not None
    assert with_pause.rate == pytest.approx(whole.rate, rel=0.03)


def test_silence_has_no_manner() -> None:
    assert manner(np.zeros(RATE_HZ, np.float32), RATE_HZ, "అఆ") is None
    assert manner(pulses(1.0, 120), RATE_HZ, "...") is None
    plain = manner(pulses(1.0, 120), RATE_HZ, "అఆ")
    assert plain is not None
    moving = plain._replace(range_semitones=2.0)
    assert moving.against(moving) == Change(1.0, 0.0, 1.0, 0.0)
    for still in (moving._replace(pitch_hz=0.0), moving._replace(range_semitones=0.0)):
        assert moving.against(still) is None
        assert still.against(moving) is None
