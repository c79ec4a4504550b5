"""Which rows a step reads."""

import pytest

from paluku.training.sampler import batch_indices


def test_every_row_comes_once_an_epoch_in_another_order_each() -> None:
    rows = [row for step in range(7) for row in batch_indices(21, seed=3, step=step, batch=6)]
    first, second = rows[:21], rows[21:42]
    assert sorted(first) == sorted(second) == list(range(21))
    assert first != second


@pytest.mark.parametrize("size", [2, 3])
def test_workers_read_together_what_one_with_their_batch_reads(size: int) -> None:
    for step in range(10):
        shares = [batch_indices(17, 0, step, 4, rank, size) for rank in range(size)]
        assert [row for share in shares for row in share] == batch_indices(17, 0, step, 4 * size)


def test_a_step_is_the_same_whatever_came_before() -> None:
    alone = batch_indices(50, seed=1, step=40, batch=4)
    walked = [batch_indices(50, seed=1, step=step, batch=4) for step in range(41)]
    assert walked[40] == alone
    assert batch_indices(50, seed=2, step=40, batch=4) != alone


def test_a_batch_may_exceed_the_rows() -> None:
    assert sorted(batch_indices(2, seed=0, step=0, batch=6)) == [0, 0, 0, 1, 1, 1]


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        batch_indices(0, seed=0, step=0, batch=1)
