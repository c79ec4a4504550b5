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


def test_a_bad_minute_is_forgotten_when_nothing_follows_it() -> None:
    clock = FakeClock()
    metrics = TickMetrics(clock)
    started_s = clock.now()
    clock.advance(0.2)
    metrics.ticked(started_s)
    metrics.staged("encode", 0.2)
    metrics.answered(0.2)
    clock.advance(59)
    assert metrics.tick_ms(99) == pytest.approx(200.0)
    clock.advance(2)
    assert metrics.tick_ms(99) is metrics.stage_ms("encode", 99) is metrics.answer_ms(50) is None
    assert sum(metrics.tick_histogram.counts) == 1  # of all there ever were
