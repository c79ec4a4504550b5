"""Simulated clients: the aligner finds each one's phase and jitter, then keeps quiet."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from paluku.streaming.alignment import AlignConfig, Aligner

TICK_MS = 40.0
CONFIG = AlignConfig()


class Trace(NamedTuple):
    """What a client was asked, and by how much its messages came before the tick meant for them."""

    shifts: list[tuple[int, float]]  # frame, ms
    margins_ms: np.ndarray  # negative: late for it
    lead_ms: float
    low_ms: float | None


def simulated(
    frames: int,
    phase_ms: Callable[[int], float],
    jitter_ms: Callable[[np.random.Generator], float],
    follows_after: int | None = 3,
) -> Trace:
    """A client whose messages would come `phase_ms` before the tick; it obeys so many frames later."""
    rng = np.random.default_rng(1)
    aligner = Aligner(CONFIG, TICK_MS / 1e3)
    moved, asked, shifts, margins = 0.0, [], [], []
    for frame in range(frames):
        for when, shift in asked:
            if follows_after is not None and frame == when + follows_after:
                moved += shift
        margin = phase_ms(frame) - moved - jitter_ms(rng)
        margins.append((margin + TICK_MS / 4) % TICK_MS - TICK_MS / 4)
        if (shift := aligner.observe(margin % TICK_MS / 1e3, frame * TICK_MS / 1e3)) is not None:
            asked.append((frame, shift))
            shifts.append((frame, shift))
    return Trace(shifts, np.array(margins), aligner.lead_ms, aligner.margin_low_ms)


def late_share(trace: Trace, start: int) -> float:
    return float((trace.margins_ms[start:] < 0).mean())


@pytest.mark.parametrize("phase_ms", [0.5, 5.0, 13.0, 20.0, 31.0, 39.5])
def test_a_steady_client_comes_just_before_the_tick(phase_ms: float) -> None:
    trace = simulated(750, lambda _: phase_ms, lambda rng: rng.uniform(-0.5, 0.5))
    assert len(trace.shifts) <= 2
    assert all(frame < 200 for frame, _ in trace.shifts), "then it is quiet"
    # 0.5 ms of jitter and the guard of 3 ms, give or take the tolerance.
    assert 2.5 <= trace.lead_ms <= 6.5
    assert trace.margins_ms[200:].min() > 0
    assert trace.margins_ms[200:].mean() < 10.0


def test_the_first_shift_comes_after_ten_frames_to_the_initial_lead() -> None:
    trace = simulated(11, lambda _: 30.0, lambda _: 0.0)
    assert trace.shifts == [(9, pytest.approx(18.0))]


def test_a_shift_goes_the_shorter_way_round() -> None:
    assert simulated(11, lambda _: 38.0, lambda _: 0.0).shifts == [(9, pytest.approx(-14.0))]


def test_jitter_gets_the_lead_it_needs() -> None:
    """Exponential lateness of 3 ms mean: its 2 % reach 12 ms, some 9 past the mean."""
    trace = simulated(1_500, lambda _: 25.0, lambda rng: float(rng.exponential(3.0)))
    assert late_share(trace, 300) < CONFIG.late_share
    assert 8.0 < trace.lead_ms < 18.0
    assert sum(frame > 300 for frame, _ in trace.shifts) <= 2
    assert trace.low_ms is not None
    assert trace.low_ms > 0


def test_the_lead_has_bounds() -> None:
    """Messages anywhere in the tick: nothing helps, so no more than the greatest lead is asked for."""
    trace = simulated(1_500, lambda _: 0.0, lambda rng: rng.uniform(0.0, TICK_MS))
    assert CONFIG.min_lead_ms <= trace.lead_ms <= CONFIG.max_lead_ms
    gaps = np.diff([frame for frame, _ in trace.shifts])
    assert (gaps > CONFIG.every_frames).all(), "at most one shift a second"


def test_a_drifting_clock_is_followed_with_few_shifts() -> None:
    """100 parts in a million are 6 ms a minute: about two tolerances."""
    minutes = 3
    trace = simulated(minutes * 1_500, lambda n: 20.0 - n * 0.004, lambda rng: rng.uniform(-1.0, 1.0))
    assert late_share(trace, 300) < 0.002
    assert len(trace.shifts) <= 2 + 3 * minutes
    assert trace.margins_ms[300:].mean() < 12.0


def test_a_step_is_followed_then_it_is_quiet_again() -> None:
    trace = simulated(1_500, lambda n: 20.0 if n < 500 else 5.0, lambda rng: rng.uniform(-1.0, 1.0))
    after = [frame for frame, _ in trace.shifts if frame >= 500]
    assert after
    assert all(frame < 800 for frame in after)
    assert len(after) <= 4
    assert late_share(trace, 800) == 0.0
    assert trace.margins_ms[800:].mean() < 12.0


def test_a_client_that_does_not_follow_is_asked_less_and_less_often() -> None:
    trace = simulated(10_000, lambda _: 30.0, lambda rng: rng.uniform(-1.0, 1.0), follows_after=None)
    frames = [frame for frame, _ in trace.shifts]
    assert 3 < len(frames) < 15
    assert np.diff(frames)[-1] > 8 * np.diff(frames)[0]


def test_the_lead_before_anything_is_measured_is_the_hint_for_a_new_client() -> None:
    aligner = Aligner(CONFIG, TICK_MS / 1e3)
    assert (aligner.lead_ms, aligner.margin_low_ms) == (CONFIG.initial_lead_ms, None)


def test_frames_that_waited_a_tick_longer_have_the_same_phase() -> None:
    aligner = Aligner(CONFIG, TICK_MS / 1e3)
    asked = [aligner.observe(0.030 + 0.040 * (frame % 3), 0.0) for frame in range(10)]
    assert asked[:-1] == [None] * 9
    assert asked[-1] == pytest.approx(18.0)
