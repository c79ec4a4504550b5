"""Which rows a step reads: a pure function of seed and step, so that a resumed run reads what it would have.

Two workers with batch `n` read together what one worker with batch `2n` reads.
"""

import functools

import numpy as np


def batch_indices(count: int, seed: int, step: int, batch: int, rank: int = 0, size: int = 1) -> list[int]:
    """Row numbers of one worker's batch: `count` rows in a new order every epoch, no row left out.

    Raises:
        ValueError: when there are no rows.
    """
    if count < 1:
        raise ValueError("no rows to draw from")
    first = (step * size + rank) * batch
    return [_row(count, seed, position) for position in range(first, first + batch)]


def _row(count: int, seed: int, position: int) -> int:
    epoch, place = divmod(position, count)
    return int(_order(count, seed, epoch)[place])


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
