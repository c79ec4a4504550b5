import pytest

from paluku.client.latency import reaction_ms, summary

FRAME_S = 0.04


def test_a_worked_example() -> None:
    # Frame 0 is full at 1.00 s; the reply that carries it, number 1, comes at 1.05 s. The frame's eight
    # instants lie 2.5, 7.5, ..., 37.5 ms before it was full: they wait 52.5 to 87.5 ms, 70 on average.
    latency = summary(reaction_ms({0: 1.0}, {0: 1.01, 1: 1.05}, FRAME_S, delay_frames=1))
    assert latency is not None
    assert latency.count == 8
    assert latency.mean_ms == pytest.approx(70.0)
    # The deviation of eight evenly spaced instants: 5 ms * sqrt((8**2 - 1) / 12).
    assert latency.std_ms == pytest.approx(11.46, abs=0.01)


def test_frame_fill_alone_deviates_by_a_frame_over_root_twelve() -> None:
    full = {n: n * FRAME_S for n in range(100)}
    latency = summary(reaction_ms(full, {n + 1: t + 0.06 for n, t in full.items()}, FRAME_S, delay_frames=1))
    assert latency is not None
    assert latency.mean_ms == pytest.approx(80.0)
    assert latency.std_ms == pytest.approx(40 / 12**0.5, rel=0.01)


def test_a_longer_delay_looks_at_a_later_reply() -> None:
    arrived = {0: 0.0, 1: 1.0, 2: 2.0}
    latency = summary(reaction_ms({0: 0.0}, arrived, FRAME_S, delay_frames=2))
    assert latency is not None
    assert latency.mean_ms == pytest.approx(2020.0)


def test_frames_without_a_reply_are_not_measured() -> None:
    assert summary(reaction_ms({0: 0.0, 1: 0.04}, {0: 0.05}, FRAME_S, delay_frames=1)) is None
