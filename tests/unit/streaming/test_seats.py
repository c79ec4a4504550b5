import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.errors import SeatsExhausted
from paluku.streaming.seats import SeatTable


def test_the_lowest_free_seat_is_taken() -> None:
    table = SeatTable(3)
    assert [table.take(), table.take(), table.take()] == [0, 1, 2]
    for seat in (2, 0):
        table.release(seat)
    assert [table.take(), table.take()] == [0, 2]


def test_a_full_table_refuses_with_a_retry_hint() -> None:
    table = SeatTable(1, retry_s=7.5)
    table.take()
    with pytest.raises(SeatsExhausted, match=r"all 1 seats are taken; try again in 7.5 s") as refused:
        table.take()
    assert refused.value.retry_s == 7.5


@pytest.mark.parametrize(
    ("seat", "says"), [(-1, "there are seats 0 to 1"), (2, "not 2"), (0, "seat 0 is free")]
)
def test_only_a_seat_that_is_taken_is_released(seat: int, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        SeatTable(2).release(seat)


def test_a_table_without_seats_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one seat, not 0"):
        SeatTable(0)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_used_and_free_always_add_up(leave: list[int]) -> None:
    # Takings and leavings in any order: no seat is ever given to two, and none is lost.
    table, seated = SeatTable(4), set[int]()
    for seat in leave:
        if seat in seated:
            table.release(seat)
            seated.remove(seat)
        else:
            taken = table.take()
            assert taken == min(set(range(4)) - seated)
            seated.add(taken)
    assert table.num_used == len(seated)
