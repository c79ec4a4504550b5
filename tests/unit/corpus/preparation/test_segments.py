"""Utterances are in order and disjoint, hold all speech, and are cut at pauses."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from paluku.corpus.preparation.segments import (
    SHORTEST_PAUSE_S,
    SegmentSettings,
    Stretch,
    covered,
    cut,
    speech_stretches,
    trimmed,
    with_onsets,
)

WINDOW_S = 0.032
SETTINGS = SegmentSettings(min_s=0.5, max_s=4.0, margin_s=0.1, pause_s=0.4)
TINY = 1e-9


def middle(start_s: float, end_s: float) -> float:
    return (start_s + end_s) / 2


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[Stretch], float]:
    """Stretches as `speech_stretches` gives them, and the recording's duration."""
    now, stretches = draw(st.floats(0, 3)), []
    for length, pause in draw(
        st.lists(st.tuples(st.floats(0.1, 12), st.floats(SHORTEST_PAUSE_S, 3)), max_size=12)
    ):
        stretches.append(Stretch(now, now + length))
        now += length + pause
    return stretches, now + draw(st.floats(0, 3))


@given(recordings())
def test_utterances_are_ordered_disjoint_bounded_and_hold_all_speech(
    recording: tuple[list[Stretch], float],
) -> None:
    stretches, duration_s = recording
    segments = cut(stretches, duration_s, SETTINGS, middle)
    assert all(0 <= s.start_s < s.end_s <= duration_s + TINY for s in segments)
    assert all(s.end_s - s.start_s <= SETTINGS.max_s + TINY for s in segments)
    assert all(a.end_s <= b.start_s + TINY for a, b in pairwise(segments))
    for stretch in stretches:
        held = sum(max(min(s.end_s, stretch.end_s) - max(s.start_s, stretch.start_s), 0) for s in segments)
        assert held == pytest.approx(stretch.duration_s)


@given(recordings())
def test_speech_is_cut_only_where_it_is_long_and_has_no_pause(
    recording: tuple[list[Stretch], float],
) -> None:
    stretches, duration_s = recording
    segments = cut(stretches, duration_s, SETTINGS, middle)
    for segment in segments:
        inside = [s for s in stretches if s.start_s + TINY < segment.end_s < s.end_s - TINY]
        assert bool(inside) == segment.is_cut_in_speech
        assert all(s.duration_s > SETTINGS.max_s - 2 * SETTINGS.margin_s for s in inside)


@given(recordings())
def test_no_long_pause_is_left_inside_unless_a_side_would_be_too_short(
    recording: tuple[list[Stretch], float],
) -> None:
    stretches, duration_s = recording
    for segment in cut(stretches, duration_s, SETTINGS, middle):
        own = [
            s for s in stretches if segment.start_s - TINY <= s.start_s and s.end_s <= segment.end_s + TINY
        ]
        for before, after in pairwise(own):
            if after.start_s - before.end_s >= SETTINGS.pause_s + TINY:
                place_s = middle(before.end_s, after.start_s)
                shorter_s = min(place_s - segment.start_s, segment.end_s - place_s)
                assert shorter_s < SETTINGS.min_s + TINY


@given(st.lists(st.floats(0, 1, width=32), max_size=200), st.floats(0.001, WINDOW_S))
def test_stretches_hold_all_loud_windows_but_clicks(values: list[float], last_s: float) -> None:
    duration_s = max(len(values) - 1, 0) * WINDOW_S + last_s
    settings = SegmentSettings(min_speech_s=0.1)
    found = speech_stretches(np.array(values, np.float32), WINDOW_S, duration_s, settings)
    assert all(s.duration_s >= settings.min_speech_s and s.end_s <= duration_s for s in found)
    assert all(b.start_s - a.end_s >= SHORTEST_PAUSE_S - TINY for a, b in pairwise(found))
    everything = speech_stretches(np.array(values), WINDOW_S, duration_s, SegmentSettings(min_speech_s=0))
    for number, value in enumerate(np.array(values, np.float32)):
        if value >= settings.speech_threshold:
            assert any(s.start_s - TINY <= number * WINDOW_S < s.end_s for s in everything)


def windows(*runs: tuple[float, int]) -> np.ndarray:
    return np.concatenate([np.full(count, value, np.float32) for value, count in runs])


def test_speech_begins_at_one_threshold_and_ends_at_another() -> None:
    heard = windows((0, 5), (0.4, 5), (0.9, 5), (0.4, 5), (0.1, 5), (0.4, 5), (0, 5))
    found = speech_stretches(heard, WINDOW_S, 35 * WINDOW_S, SETTINGS)
    assert found == [pytest.approx((10 * WINDOW_S, 20 * WINDOW_S))]


def test_a_gap_of_two_windows_is_no_pause_and_a_click_is_no_speech() -> None:
    heard = windows((1, 10), (0, 2), (1, 10), (0, 20), (1, 3), (0, 20), (1, 4))
    found = speech_stretches(heard, WINDOW_S, 69 * WINDOW_S, SETTINGS)
    assert found == [pytest.approx((0, 22 * WINDOW_S)), pytest.approx((65 * WINDOW_S, 69 * WINDOW_S))]


def test_an_onset_that_was_noticed_late_is_brought_back() -> None:
    powers = np.array([1e-9] * 10 + [1.0] * 6 + [2.0] * 20 + [1e-9] * 10 + [1.0] * 30)
    found = [Stretch(16 * WINDOW_S, 36 * WINDOW_S), Stretch(70 * WINDOW_S, 76 * WINDOW_S)]
    earlier = with_onsets(found, powers, WINDOW_S)
    assert earlier[0] == pytest.approx((10 * WINDOW_S, 36 * WINDOW_S))
    assert earlier[1] == pytest.approx((58 * WINDOW_S, 76 * WINDOW_S)), "by 0.4 s at most"
    assert np.flatnonzero(covered(earlier, WINDOW_S, 76)).tolist() == [*range(10, 36), *range(58, 76)]


def test_the_longest_pause_is_cut_first_and_margins_share_it() -> None:
    speech = [Stretch(1, 2.9), Stretch(3.0, 4.5), Stretch(4.7, 6)]
    cuts = cut(speech, 9.0, SETTINGS, middle)
    assert [segment[:2] for segment in cuts] == [pytest.approx((0.9, 4.6)), pytest.approx((4.6, 6.1))]


def test_a_short_word_alone_takes_silence_around_it() -> None:
    cuts = cut([Stretch(0.1, 0.3), Stretch(4.0, 6.0)], 7.0, SETTINGS, middle)
    assert [segment[:2] for segment in cuts] == [pytest.approx((0, 0.5)), pytest.approx((3.9, 6.1))]


def test_without_a_pause_it_is_cut_where_it_is_quietest() -> None:
    cuts = cut([Stretch(0, 6)], 6.0, SETTINGS, lambda start_s, end_s: start_s + 0.5)
    assert cuts == [(0, 2.0, True), (2.0, 3.5, True), (3.5, 6.0, False)]
    assert cut([], 5.0, SETTINGS, middle) == []


def test_a_whole_recording_keeps_its_pauses() -> None:
    assert trimmed([Stretch(1, 2), Stretch(9, 10)], 12, SETTINGS)[:2] == pytest.approx((0.9, 10.1))


@pytest.mark.parametrize("values", [{"silence_threshold": 0.6}, {"max_s": 4.0}])
def test_settings_that_contradict_each_other_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="must"):
        SegmentSettings(**values)
