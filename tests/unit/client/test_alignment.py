"""When frames are full, worked out by hand; a microphone that gives and takes samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.client.alignment import Alignment, MicrophoneFramer
from tests.unit.protocol.test_machine import READY


def alignment(tick_in_ms: float = 30, lead_ms: float = 10, round_trip_s: float = 0.006) -> Alignment:
    ready = READY.model_copy(update={"tick_in_ms": tick_in_ms, "lead_ms": lead_ms})
    return Alignment(ready, received_s=100.0, round_trip_s=round_trip_s)


def test_a_frame_arrives_the_lead_before_the_tick() -> None:
    # Ready left at 99.997, the tick is at 100.027; what leaves at 100.014 arrives at 100.017.
    assert alignment().wait_s(100.0) == pytest.approx(0.014)
    assert alignment().nearest_s(100.014 + 7 * 0.04) == pytest.approx(0.0, abs=1e-9)
    assert alignment().wait_s(100.015) == pytest.approx(0.039)


def test_the_nearest_instant_is_at_most_half_a_frame_away() -> None:
    assert alignment().nearest_s(100.015) == pytest.approx(-0.001)
    assert alignment().nearest_s(100.0) == pytest.approx(0.014)


def test_a_shift_moves_every_instant() -> None:
    aligned = alignment()
    aligned.shift(-4.0)
    assert aligned.nearest_s(100.014) == pytest.approx(-0.004)


def ramp(samples: int) -> np.ndarray:
    return np.arange(1, samples + 1, dtype=np.int16)


def test_to_be_full_later_a_frame_loses_samples() -> None:
    framer = MicrophoneFramer(4)
    framer.correct(2)
    assert framer.missing_samples == 6
    assert [frame.tolist() for frame in framer.push(ramp(9))] == [[3, 4, 5, 6]]


def test_to_be_full_earlier_a_frame_gets_silence() -> None:
    framer = MicrophoneFramer(4)
    framer.push(ramp(1))
    framer.correct(-2)
    assert framer.missing_samples == 1
    assert [frame.tolist() for frame in framer.push(ramp(1))] == [[1, 0, 0, 1]]


def test_opposite_corrections_cancel() -> None:
    framer = MicrophoneFramer(4)
    framer.correct(3)
    framer.correct(-3)
    assert [frame.tolist() for frame in framer.push(ramp(4))] == [[1, 2, 3, 4]]


def test_the_last_frame_is_filled_up() -> None:
    framer = MicrophoneFramer(4)
    framer.push(ramp(5))
    assert [frame.tolist() for frame in framer.finish()] == [[5, 0, 0, 0]]
    assert framer.finish() == []


@given(st.lists(st.integers(-6, 6) | st.integers(0, 9).map(ramp), max_size=20))
def test_nothing_but_corrections_adds_or_takes_samples(steps: list[int | np.ndarray]) -> None:
    framer, heard, out, shifted = MicrophoneFramer(4), 0, 0, 0
    for step in [*steps, ramp(200)]:
        if isinstance(step, int):
            framer.correct(step)
            shifted += step
        else:
            heard += len(step)
            out += 4 * len(framer.push(step))
    # What was heard, with what was put in and without what was taken out, is in frames or waits for one.
    assert out == (heard - shifted) // 4 * 4
