"""Leases on a clock that is moved by hand."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.errors import SeatsExhausted
from paluku.streaming.leases import LeaseTable, Refusal, draw_lease
from tests.fakes.clock import FakeClock


def table(num_seats: int = 2, clock: FakeClock | None = None) -> LeaseTable:
    """Five seconds; leases are 101, 102 ..."""
    return LeaseTable(num_seats, 5.0, clock or FakeClock(), itertools.count(101).__next__)


def test_each_session_has_a_seat_under_a_number() -> None:
    leases = table()
    assert leases.open("a") == (101, 0, None)
    assert leases.open("b") == (102, 1, None)
    assert leases.sessions == {"a", "b"}
    with pytest.raises(SeatsExhausted, match="all 2 seats are taken; try again in 5 s"):
        leases.open("c")


def test_drawn_leases_are_positive_int64_and_differ() -> None:
    drawn = [draw_lease() for _ in range(100)]
    assert len(set(drawn)) == 100
    assert all(0 < lease < 2**63 for lease in drawn)


def test_a_session_that_opens_again_gets_its_own_seat_anew() -> None:
    leases = table()
    leases.open("a")
    leases.open("b")
    assert leases.take(101, 0) == 0
    assert leases.open("a") == (103, 0, 0)
    assert leases.take(101, 1) is Refusal.GONE
    assert leases.take(103, 0) == 0, "it begins with frame 0"
    assert leases.sessions == {"a", "b"}


def test_frames_are_taken_in_order_once() -> None:
    leases = table()
    leases.open("a")
    assert leases.take(101, 1) is Refusal.OUT_OF_ORDER
    assert leases.take(101, 0) == 0
    assert leases.take(101, 0) is Refusal.OUT_OF_ORDER
    assert leases.take(101, 1) == 0
    assert leases.take(999, 0) is Refusal.GONE


def test_a_lease_expires_when_nobody_asks_for_it() -> None:
    clock = FakeClock()
    leases = table(3, clock)
    for session in ("stepped", "renewed", "silent"):
        leases.open(session)
    clock.advance(4.0)
    assert leases.take(101, 0) == 0
    assert leases.renew(102)
    clock.advance(1.5)
    assert leases.expire() == [2]
    assert leases.sessions == {"stepped", "renewed"}
    assert not leases.renew(103)
    assert leases.take(103, 0) is Refusal.GONE
    clock.advance(3.6)
    assert leases.expire() == [0, 1]
    assert leases.open("next") == (104, 0, None)


def test_asking_in_vain_for_a_frame_keeps_a_lease() -> None:
    # An ingress that lost count is there, and will close or prime.
    clock = FakeClock()
    leases = table(1, clock)
    leases.open("a")
    clock.advance(4)
    leases.take(101, 7)
    clock.advance(4)
    assert leases.expire() == []


def test_a_seat_is_primed_before_it_is_stepped() -> None:
    clock = FakeClock()
    leases = table(1, clock)
    leases.open("a")
    assert leases.begin_priming(101) == 0
    assert leases.take(101, 0) is Refusal.OUT_OF_ORDER
    assert leases.begin_priming(101) is Refusal.OUT_OF_ORDER
    clock.advance(60)
    assert leases.expire() == [], "who primes is there"
    leases.primed(101, 250)
    assert leases.take(101, 0) is Refusal.OUT_OF_ORDER
    assert leases.take(101, 250) == 0
    assert leases.begin_priming(101) is Refusal.OUT_OF_ORDER
    assert leases.begin_priming(999) is Refusal.GONE


def test_a_lease_may_be_closed_at_any_time_and_twice() -> None:
    leases = table(1)
    leases.open("a")
    leases.begin_priming(101)
    assert leases.close(101) == 0
    assert leases.close(101) is None
    assert leases.seat(101) is None
    assert leases.open("b").seat == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.sampled_from("abcde")),
            st.tuples(st.just("close"), st.integers(101, 120)),
            st.tuples(st.just("renew"), st.integers(101, 120)),
            st.tuples(st.just("wait"), st.sampled_from([1.0, 3.0])),
        ),
        max_size=40,
    )
)
def test_no_seat_is_ever_lost_or_given_to_two(happenings: list[tuple[str, int | str | float]]) -> None:
    clock = FakeClock()
    leases = table(3, clock)
    seats, given = dict[str, int](), dict[int, str]()  # by session; sessions by lease
    for what, value in happenings:
        if what == "open":
            assert isinstance(value, str)
            if value not in seats and len(seats) == 3:
                with pytest.raises(SeatsExhausted):
                    leases.open(value)
                continue
            opened = leases.open(value)
            assert opened.closed == seats.pop(value, None)
            assert opened.seat not in seats.values()
            seats[value], given[opened.lease] = opened.seat, value
        elif what == "close":
            closed = leases.close(int(value))
            assert closed is None or closed == seats.pop(given[int(value)])
        elif what == "renew":
            leases.renew(int(value))
        else:
            clock.advance(float(value))
            gone = leases.expire()
            seats = {session: seat for session, seat in seats.items() if seat not in gone}
        assert leases.sessions == set(seats)
