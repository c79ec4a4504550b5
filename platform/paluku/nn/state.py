"""Explicit streaming state: a tree of tensors whose first dimension is the seat, zero when fresh.

Every streaming layer states its state as a tensor or a (named) tuple of states. A step updates the
tensors in place, only at the seats of its `exec_mask`, so that a tick allocates no state and can be
captured in a CUDA graph. Zero means fresh, for every layer: resetting and moving seats is therefore
the same three functions for any model.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from paluku.shapes import Mask

# A Tensor, or a tuple (named tuples too) of States. Recursive aliases are not checkable at run time.
State = Any


def leaves(state: State) -> Iterator[Tensor]:
    """Every tensor of the tree, in a fixed order; each is `[B, ...]`."""
    if isinstance(state, Tensor):
        yield state
        return
    assert isinstance(state, tuple), f"state must be a tensor or a tuple, not {type(state).__name__}"
    for child in state:
        yield from leaves(child)


def update_(target: Tensor, value: Tensor, mask: Mask) -> None:
    """`target[b] = value[b]` at the seats where `mask[b]`, in place, with fixed shapes.

    `target` and `value` are `[B, ...]`.
    """
    assert target.shape == value.shape, f"state {tuple(target.shape)} updated with {tuple(value.shape)}"
    torch.where(mask.view(-1, *[1] * (target.dim() - 1)), value, target, out=target)


def reset_(state: State, mask: Mask) -> None:
    """Make the seats of `mask` fresh, in place."""
    for leaf in leaves(state):
        leaf.masked_fill_(mask.view(-1, *[1] * (leaf.dim() - 1)), 0)


def take(state: State, seat: int) -> list[Tensor]:
    """A copy of one seat's state, to be stored or moved: one tensor a leaf, without the seat dimension."""
    return [leaf[seat].clone() for leaf in leaves(state)]


def put_(state: State, seat: int, taken: list[Tensor]) -> None:
    """Place what `take` gave at a seat, in place."""
    for leaf, value in zip(leaves(state), taken, strict=True):
        leaf[seat].copy_(value)
