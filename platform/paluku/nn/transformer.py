"""A pre-norm transformer with rotary positions and SwiGLU, over whole sequences and in a stream.

The layout of Llama (Touvron et al. 2023, section 2.2), which Moshi's temporal transformer shares.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from paluku.nn.attention import CausalSelfAttention, KeyValues, Stretch, filled, stretch_of
from paluku.nn.rope import Rotary, Rotation
from paluku.nn.state import update_
from paluku.shapes import Mask, Sequence

# SwiGLU has three matrices where a plain feed-forward of width 4 D has two: 8/3 D is the same size
# (Shazeer 2020, "GLU variants improve transformer"), rounded up to whole vector registers.
REGISTER = 32
# Of the order of float32's rounding: the default of torch (the dtype's epsilon) depends on the dtype.
NORM_EPSILON = 1e-6


class SwiGLU(nn.Module):
    """`(silu(x W1) * x W2) W3`, on the last dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = -(-8 * dim // (3 * REGISTER)) * REGISTER
        self.project_in = nn.Linear(dim, 2 * hidden, bias=False)
        self.project_out = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Each frame by itself."""
        gate, value = self.project_in(x).chunk(2, dim=-1)
        return self.project_out(F.silu(gate) * value)


class Block(nn.Module):
    """Attention and feed-forward, each on the normalised input and added to it."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=NORM_EPSILON)
        self.attention = CausalSelfAttention(dim, heads, window)
        self.feedforward_norm = nn.RMSNorm(dim, eps=NORM_EPSILON)
        self.feedforward = SwiGLU(dim)

    def forward(self, x: Sequence, rotation: Rotation) -> Sequence:
        """The whole sequence."""
        x = x + self.attention(self.attention_norm(x), rotation)
        return x + self.feedforward(self.feedforward_norm(x))

    def step(
        self,
        state: KeyValues,
        x: Float[Tensor, "B D"],
        position: Int[Tensor, "B"],
        seen: Bool[Tensor, "B W"],
        rotation: Rotation,
        exec_mask: Mask,
    ) -> Float[Tensor, "B D"]:
        """The next frame of each seat."""
        x = x + self.attention.step(state, self.attention_norm(x), position, seen, rotation, exec_mask)
        return x + self.feedforward(self.feedforward_norm(x))

    def extend(self, state: KeyValues, x: Sequence, rotation: Rotation, stretch: Stretch) -> Sequence:
        """The next frames of one seat."""
        x = x + self.attention.extend(state, self.attention_norm(x), rotation, stretch)
        return x + self.feedforward(self.feedforward_norm(x))

    def remember(self, state: KeyValues, x: Sequence, rotation: Rotation, stretch: Stretch) -> None:
        """`extend` without the output."""
        self.attention.remember(state, self.attention_norm(x), rotation, stretch)


class TransformerState(NamedTuple):
    """Where each seat is, and each layer's ring."""

    position: Int[Tensor, "B"]  # of the next frame
    start: Int[Tensor, "B"]  # of the seat's first frame: 0, or where what it remembers begins
    layers: tuple[KeyValues, ...]

    @property
    def lived(self) -> Int[Tensor, "B"]:
        """How many frames each seat has seen."""
        return self.position - self.start


class Transformer(nn.Module):
    """`L` blocks over a sliding window of `W` frames, and a last norm."""

    def __init__(self, dim: int, layers: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.rotary = Rotary(dim // heads)
        self.blocks = nn.ModuleList(Block(dim, heads, window) for _ in range(layers))
        self.norm = nn.RMSNorm(dim, eps=NORM_EPSILON)

    def forward(self, x: Sequence) -> Sequence:
        """`[B, T, D]` to the same; output `t` depends on inputs up to `t`."""
        rotation = self.rotary(torch.arange(x.shape[1], device=x.device)[None])
        for block in self.blocks:
            x = block(x, rotation)
        return self.norm(x)

    def init_state(self, batch: int) -> TransformerState:
        """Fresh seats."""
        position, start = torch.zeros(2, batch, dtype=torch.int64, device=self.norm.weight.device)
        layers = tuple(block.attention.init_state(batch) for block in self._blocks())
        return TransformerState(position, start, layers)

    def step(self, state: TransformerState, x: Float[Tensor, "B D"], exec_mask: Mask) -> Float[Tensor, "B D"]:
        """The next frame of each seat; state is updated in place where `exec_mask`.

        Rows outside `exec_mask` give finite values without meaning.
        """
        rotation = self.rotary(state.position[:, None])
        seen = filled(state.position, self.window, state.start)
        for block, ring in zip(self._blocks(), state.layers, strict=True):
            x = block.step(ring, x, state.position, seen, rotation, exec_mask)
        update_(state.position, state.position + 1, exec_mask)
        return self.norm(x)

    def extend(self, state: TransformerState, x: Float[Tensor, "1 T D"], layers: int) -> None:
        """The next `T` frames of one seat at once, in place: the state of as many steps, up to rounding.

        `state` holds that seat alone (its rows as views). Only the first `layers`
        rings are written: for an old frame the higher ones are out of sight (`layers_reached`).
        """
        position, length, device = int(state.position), x.shape[1], x.device
        rotation = self.rotary(torch.arange(position, position + length, device=device)[None])
        stretch = stretch_of(int(state.start), position, length, self.window, device)
        *lower, last = list(zip(self._blocks(), state.layers, strict=True))[:layers]
        for block, ring in lower:
            x = block.extend(ring, x, rotation, stretch)
        last[0].remember(last[1], x, rotation, stretch)
        state.position.add_(length)

    def layers_reached(self, age: int) -> int:
        """How many layers' rings of a frame matter `age` frames after it, and ever since."""
        return max(0, len(self.blocks) + 1 - -(-age // max(1, self.window - 1)))

    @property
    def reach(self) -> int:
        """How many frames before a frame its output depends on."""
        return len(self.blocks) * (self.window - 1)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
