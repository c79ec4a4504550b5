"""Rotary position embedding (Su et al. 2021, "RoFormer", equation 34) that stays exact in endless sessions.

A pair of channels turns by `position * frequency`. In float32 that product loses its fraction after a
few hours of frames. Here every frequency is a whole number of turns in `PERIOD` positions, so that the
angle comes from an integer product modulo `PERIOD`: exact at any position, also after the product wraps
around in int64 (`PERIOD` divides 2**64). Only differences of positions matter to attention.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# Rounding to whole turns moves no frequency by more than 2**-33 turns a position: 3,000 positions on (the
# window of Moshi), no channel has turned by 3e-6 too much. float32 then holds the angle to 2**-24 turns.
PERIOD = 2**32


class Rotation(NamedTuple):
    """Cosines and sines of every pair's angle: `[B or 1, T, E / 2]` for heads of `E` channels."""

    cos: Float[Tensor, "B T E2"]
    sin: Float[Tensor, "B T E2"]


class Rotary(nn.Module):
    """Angles for heads of `channels` channels."""

    turns: Int[Tensor, "E2"]

    def __init__(self, channels: int, base: float = 10_000.0) -> None:
        super().__init__()
        assert channels % 2 == 0, f"{channels} channels are no pairs"
        frequency = base ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
        turns = (frequency * PERIOD / (2 * math.pi)).round().long()
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, positions: Int[Tensor, "B T"]) -> Rotation:
        """Positions in frames, of any size."""
        angles = (positions[..., None] * self.turns % PERIOD).float() * (2 * math.pi / PERIOD)
        return Rotation(angles.cos(), angles.sin())


def rotate(x: Float[Tensor, "B H T E"], rotation: Rotation | None) -> Float[Tensor, "B H T E"]:
    """Turn channel `i` with channel `i + E / 2` (the halves of a head, as in GPT-NeoX and Llama).

    Without a rotation `x` itself.
    """
    if rotation is None:
        return x
    first, second = x.chunk(2, dim=-1)
    cos, sin = (part[:, None].to(x.dtype) for part in rotation)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
