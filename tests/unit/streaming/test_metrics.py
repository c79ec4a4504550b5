import pytest

from paluku.streaming.metrics import TickMetrics
from tests.fakes.clock import FakeClock


def test_percentiles_of_the_window() -> None:
    clock = FakeClock()
    metrics = TickMetrics(clock, window=101)
    for milliseconds in range(101):
        started_s = clock.now()
        clock.advance(milliseconds / 1000)
        assert metrics.ticked(started_s) == pytest.approx(milliseconds / 1000)
    assert metrics.tick_ms(50) == pytest.approx(50)
    assert metrics.tick_ms(99) == pytest.approx(99)
    assert metrics.counts["ticks"] == 101


def test_old_ticks_leave_the_window_and_stay_counted() -> None:
    clock = FakeClock()
    metrics = TickMetrics(clock, window=2)
    for duration_s in (5.0, 0.001, 0.001):
        started_s = clock.now()
        clock.advance(duration_s)
        metrics.ticked(started_s)
    assert metrics.tick_ms(99) == pytest.approx(1.0)
    assert metrics.counts["ticks"] == 3


def test_there_is_no_percentile_before_the_first_tick() -> None:
    assert TickMetrics(FakeClock()).tick_ms(50) is None
