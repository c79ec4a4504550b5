"""Mimi's transformers: pre-norm, causal, over a sliding window of latents, with rotary positions.

They run at twice the frames' rate, so a frame is a burst of two latents: the ring that a stream keeps has
room for what the burst's first latent still sees when its last one has been written.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from paluku.codec.mimi_nets import MimiConfig
from paluku.nn.attention import CausalSelfAttention, KeyValues
from paluku.nn.rope import Rotation, rotate
from paluku.nn.state import update_
from paluku.shapes import Latent, Mask, Sequence

ROTARY_BASE = 10_000.0
# A frequency is a whole number of turns in so many positions: 250 positions on, the rounding has turned
# no channel by more than 2e-7. A power of two, so that the product may wrap around in int64 (`nn.rope`).
PERIOD = 2**32


class Places(NamedTuple):
    """Where the next `N` latents of each seat go in a ring of `R` slots, and what each of them sees."""

    rotation: Rotation
    slots: Int[Tensor, "B N"]
    seen: Bool[Tensor, "B N R"]


class BurstAttention(CausalSelfAttention):
    """Attention that streams `burst` latents at a time: its ring has room for what the first still sees."""

    def __init__(self, dim: int, heads: int, window: int, burst: int) -> None:
        super().__init__(dim, heads, window)
        self.ring = window + burst - 1

    def init_state(self, batch: int) -> KeyValues:
        """Empty rings."""
        shape = batch, self.heads, self.ring, self.channels
        return KeyValues(self.project_in.weight.new_zeros(shape), self.project_in.weight.new_zeros(shape))

    def advance(self, state: KeyValues, x: Sequence, places: Places, exec_mask: Mask) -> Sequence:
        """The next latents of each seat, as many as `places` is for."""
        queries, keys, values = self._split(x)
        _place_(state.keys, rotate(keys, places.rotation), places.slots, exec_mask)
        _place_(state.values, values, places.slots, exec_mask)
        attended = F.scaled_dot_product_attention(
            rotate(queries, places.rotation), state.keys, state.values, attn_mask=places.seen[:, None]
        )
        return self.project_out(attended.transpose(1, 2).flatten(2))


def _place_(
    ring: Float[Tensor, "B H R E"],
    value: Float[Tensor, "B H N E"],
    slots: Int[Tensor, "B N"],
    exec_mask: Mask,
) -> None:
    """Put each seat's values in their slots, in place, where `exec_mask`; touches no other slot."""
    seats = torch.arange(len(ring), device=ring.device)[:, None]
    kept = ring[seats, :, slots]
    ring[seats, :, slots] = torch.where(exec_mask[:, None, None, None], value.transpose(1, 2), kept)


class Block(nn.Module):
    """Attention and feed-forward, each on the normalised input and added to it.

    The published layer scales are a factor of each output channel: `codec.mimi_layout` multiplies
    the matrices before them.
    """

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        dim, burst = config.dim, config.latents_per_frame
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = BurstAttention(dim, config.heads, config.window, burst)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, config.feedforward, bias=False)
        self.narrow = nn.Linear(config.feedforward, dim, bias=False)

    def forward(self, x: Sequence, rotation: Rotation) -> Sequence:
        """The whole sequence at once."""
        return self._fed(x + self.attention(self.attention_norm(x), rotation))

    def advance(self, state: KeyValues, x: Sequence, places: Places, exec_mask: Mask) -> Sequence:
        """The next latents of each seat."""
        return self._fed(x + self.attention.advance(state, self.attention_norm(x), places, exec_mask))

    def _fed(self, x: Sequence) -> Sequence:
        return x + self.narrow(F.gelu(self.widen(self.feedforward_norm(x))))


class TransformerState(NamedTuple):
    """The position of each seat's next latent, and each layer's ring."""

    position: Int[Tensor, "B"]
    layers: tuple[KeyValues, ...]


class LatentTransformer(nn.Module):
    """`L` blocks over `[B, D, T]`; no last norm. It streams whole frames, one frame's latents at a time."""

    turns: Int[Tensor, "E2"]

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.window, self.burst = config.window, config.latents_per_frame
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        channels = config.dim // config.heads
        frequency = ROTARY_BASE ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
        turns = (frequency * PERIOD / (2 * math.pi)).round().long()
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, x: Latent) -> Latent:
        """The whole sequence at once; it begins at position 0."""
        rotation = self._rotation(torch.arange(x.shape[-1], device=x.device)[None])
        x = x.transpose(1, 2)
        for block in self.blocks:
            x = block(x, rotation)
        return x.transpose(1, 2)

    def init_state(self, batch: int) -> TransformerState:
        """Fresh seats."""
        position = torch.zeros(batch, dtype=torch.int64, device=self.turns.device)
        return TransformerState(position, tuple(block.attention.init_state(batch) for block in self._all()))

    def step(self, state: TransformerState, x: Latent, exec_mask: Mask) -> Latent:
        """The next whole frames of each seat."""
        bursts = [self._advance(state, part, exec_mask) for part in x.split(self.burst, dim=-1)]
        return torch.cat(bursts, dim=-1)

    @property
    def reach(self) -> int:
        """How many latents before its own an output depends on."""
        return len(self.blocks) * (self.window - 1)

    def _advance(self, state: TransformerState, x: Latent, exec_mask: Mask) -> Latent:
        places = self._places(state.position)
        x = x.transpose(1, 2)
        for block, ring in zip(self._all(), state.layers, strict=True):
            x = block.advance(ring, x, places, exec_mask)
        update_(state.position, state.position + self.burst, exec_mask)
        return x.transpose(1, 2)

    def _places(self, position: Int[Tensor, "B"]) -> Places:
        """Of the frame that begins at `position`; a slot holds the last position so far that falls on it."""
        ring = self.window + self.burst - 1
        positions = position[:, None] + torch.arange(self.burst, device=position.device)
        last, slots = positions[:, -1:], torch.arange(ring, device=position.device)
        held = last - (last - slots) % ring
        age = positions[..., None] - held[:, None]
        seen = (age >= 0) & (age < self.window) & (held >= 0)[:, None]
        return Places(self._rotation(positions), positions % ring, seen)

    def _rotation(self, positions: Int[Tensor, "B T"]) -> Rotation:
        angles = (positions[..., None] * self.turns % PERIOD).float() * (2 * math.pi / PERIOD)
        return Rotation(angles.cos(), angles.sin())

    def _all(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
