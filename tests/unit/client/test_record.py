"""What a report says, worked out by hand."""

import numpy as np
import pytest

from paluku.client.record import Record, pooled_report
from paluku.protocol.messages import Stats
from tests.unit.protocol.test_machine import READY


def lived(gap_s: float = 0.04, lost: int = 0) -> Record:
    """Three frames in, three out; the last one late by `gap_s`, and `lost` before it never came."""
    record = Record(keeps_reply=True)
    for number in range(3 + lost):
        record.full_s[number] = 0.04 * (number + 1)
    for number, now_s in ((0, 0.05), (1, 0.09), (2 + lost, 0.09 + gap_s)):
        record.replied(number, bytes([number, 0]), 10.0, now_s)
    return record


def test_the_longest_silence_is_between_two_replies() -> None:
    assert lived(0.5).longest_silence_ms == pytest.approx(500)


def test_frames_that_never_came_are_counted() -> None:
    assert lived().lost_frames == 0
    assert lived(lost=2).lost_frames == 2
    assert lived(lost=2).next_reply == 5


def test_frames_that_were_interrupted_are_not_lost() -> None:
    record = lived()
    record.interrupted()
    record.replied(9, b"\0\0", 1.0, 1.0)
    record.replied(11, b"\0\0", 1.0, 1.0)
    assert record.lost_frames == 1


def test_silences_around_a_resume_are_kept_apart() -> None:
    record = lived()
    record.resumed()
    record.replied(3, b"\0\0", 1.0, 0.93)
    record.replied(4, b"\0\0", 1.0, 0.97)
    assert record.silences_ms == pytest.approx([800])
    assert record.resumes == 1


def test_the_report_adds_it_up() -> None:
    record = lived()
    record.said("అ")
    record.said("వును")
    record.stats = Stats(frames_in=3, frames_out=3, late_frames=1, tick_p50_ms=2, tick_p99_ms=3)
    report = record.report(READY)
    assert (report.frames_in, report.frames_out, report.late_frames) == (3, 3, 1)
    assert report.transcript == "అవును"
    assert report.server is not None
    assert report.server.mean_ms == 10
    # Frames 0 and 1 are reflected by replies 1 and 2; their middles were 20 ms before they were full.
    assert report.reaction is not None
    assert report.reaction.mean_ms == pytest.approx((0.09 - 0.02 + 0.13 - 0.06) / 2 * 1_000)
    assert record.reply.tolist() == [0, 1, 2]


def test_pooling_adds_counts_and_keeps_the_worst() -> None:
    report = pooled_report([lived(0.2), lived(0.3, lost=1)], [READY, READY])
    assert (report.frames_in, report.lost_frames) == (7, 1)
    assert report.longest_silence_ms == 300
    assert report.server is not None
    assert report.server.count == 6


def test_a_machine_too_slow_is_named() -> None:
    report = lived().report(READY)
    assert (
        report.model_copy(update={"tick_p50_ms": 39.9, "tick_p99_ms": 60}).ticks()
        == "p50 39.9 ms, p99 60.0 ms"
    )
    assert "too slow or too busy" in report.model_copy(update={"tick_p50_ms": 41.0}).ticks()


def test_a_soak_keeps_no_sound() -> None:
    record = Record(keeps_reply=False)
    record.replied(0, b"\1\0", 1.0, 0.0)
    record.said("a")
    assert len(record.reply) == 0
    assert record.report(READY).transcript == ""
    assert np.isclose(record.report(READY).server.mean_ms, 1.0)  # type: ignore[union-attr]
