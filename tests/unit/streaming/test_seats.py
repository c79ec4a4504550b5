import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.errors import SeatsExhausted
from paluku.streaming.seats import SeatState, SeatTable


def test_the_lowest_free_seat_is_leased() -> None:
    table = SeatTable(3)
    assert [table.lease(), table.lease(), table.lease()] == [0, 1, 2]
    for seat in (2, 0):
        table.closing(seat)
        table.release(seat)
    assert [table.lease(), table.lease()] == [0, 2]


def test_a_full_table_refuses_with_a_retry_hint() -> None:
    table = SeatTable(1, retry_s=7.5)
    table.lease()
    with pytest.raises(SeatsExhausted, match=r"all 1 seats are taken; try again in 7.5 s") as refused:
        table.lease()
    assert refused.value.retry_s == 7.5


def test_a_closing_seat_is_not_free() -> None:
    table = SeatTable(1)
    table.closing(table.lease())
    with pytest.raises(SeatsExhausted):
        table.lease()
    assert table.num_used == 1
    table.release(0)
    assert table.num_used == 0
    assert table.lease() == 0


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (["opened"], "seat 0 is free and cannot become live"),
        (["closing"], "seat 0 is free and cannot become closing"),
        (["release"], "seat 0 is free and cannot become free"),
        (["lease", "release"], "seat 0 is opening and cannot become free"),
        (["lease", "opened", "opened"], "seat 0 is live and cannot become live"),
        (["lease", "opened", "release"], "seat 0 is live and cannot become free"),
        (["lease", "opened", "closing", "closing"], "seat 0 is closing and cannot become closing"),
        (["lease", "opened", "closing", "opened"], "seat 0 is closing and cannot become live"),
    ],
)
def test_wrong_steps_are_refused_with_the_state(steps: list[str], says: str) -> None:
    table = SeatTable(1)
    *before, last = steps
    for step in before:
        table.lease() if step == "lease" else getattr(table, step)(0)
    with pytest.raises(RuntimeError, match=says):
        getattr(table, last)(0)


@pytest.mark.parametrize("seat", [-1, 2])
def test_a_seat_that_does_not_exist_is_named(seat: int) -> None:
    with pytest.raises(RuntimeError, match=f"seat {seat} does not exist; there are seats 0 to 1"):
        SeatTable(2).state(seat)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_used_and_free_always_add_up(leave: list[int]) -> None:
    # Leases and leavings in any order: no seat is ever given to two, and none is lost.
    table, seated = SeatTable(4), set[int]()
    for seat in leave:
        if seat in seated:
            table.closing(seat)
            table.release(seat)
            seated.remove(seat)
        else:
            leased = table.lease()
            assert leased not in seated
            assert leased == min(set(range(4)) - seated)
            seated.add(leased)
            table.opened(leased)
    assert table.num_used == len(seated)
    assert {s for s in range(4) if table.state(s) is SeatState.LIVE} == seated
