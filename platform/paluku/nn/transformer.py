"""A pre-norm transformer with rotary positions and SwiGLU, over whole sequences and in a stream.

The layout of Llama (Touvron et al. 2023, section 2.2), which Moshi's temporal transformer shares.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paluku.nn.attention import (
    CausalSelfAttention,
    KeyValues,
    Seen,
    Stretch,
    filled,
    since_start,
    sliding_window,
    stretch_of,
    within_documents,
)
from paluku.nn.rope import Rotary, Rotation
from paluku.nn.state import update_
from paluku.nn.step_linear import linear
from paluku.shapes import Mask, Sequence

# SwiGLU has three matrices where a plain feed-forward of width 4 D has two: 8/3 D is the same size
# (Shazeer 2020, "GLU variants improve transformer"), rounded up to whole vector registers.
REGISTER = 32
# Of the order of float32's rounding: the default of torch (the dtype's epsilon) depends on the dtype.
NORM_EPSILON = 1e-6
ROPE_BASE = 10_000.0


def default_feedforward(dim: int) -> int:
    """The width inside SwiGLU that makes it as large as a plain feed-forward of width `4 dim`."""
    return -(-8 * dim // (3 * REGISTER)) * REGISTER


class SwiGLU(nn.Module):
    """`(silu(x W1) * x W2) W3`, on the last dimension."""

    def __init__(self, dim: int, hidden: int | None = None, steps: int | None = None) -> None:
        super().__init__()
        hidden = hidden or default_feedforward(dim)
        self.project_in = linear(dim, 2 * hidden, steps)
        self.project_out = linear(hidden, dim, steps)

    def forward(self, x: Float[Tensor, "... D"], index: int | None = None) -> Float[Tensor, "... D"]:
        """Each frame by itself; `index` as in `StepLinear`."""
        gate, value = self.project_in(x, index).chunk(2, dim=-1)
        return self.project_out(F.silu(gate) * value, index)


class Block(nn.Module):
    """Attention and feed-forward, each on the normalised input and added to it."""

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        *,
        feedforward_dim: int | None = None,
        norm_epsilon: float = NORM_EPSILON,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=norm_epsilon)
        self.attention = CausalSelfAttention(dim, heads, window, steps)
        self.feedforward_norm = nn.RMSNorm(dim, eps=norm_epsilon)
        self.feedforward = SwiGLU(dim, feedforward_dim, steps)
        self.dropout = 0.0  # in training, of what either adds (Vaswani et al. 2017, section 5.4)

    def forward(self, x: Sequence, rotation: Rotation | None, seen: Seen | None = None) -> Sequence:
        """The whole sequence."""
        x = x + self._dropped(self.attention(self.attention_norm(x), rotation, seen))
        return x + self._dropped(self.feedforward(self.feedforward_norm(x)))

    def _dropped(self, x: Sequence) -> Sequence:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def step(
        self,
        state: KeyValues,
        x: Float[Tensor, "B D"],
        position: Int[Tensor, "B"],
        seen: Bool[Tensor, "B W"],
        rotation: Rotation | None,
        exec_mask: Mask,
        index: int | None = None,
    ) -> Float[Tensor, "B D"]:
        """The next frame of each seat."""
        attended = self.attention.step(
            state, self.attention_norm(x), position, seen, rotation, exec_mask, index
        )
        x = x + attended
        return x + self.feedforward(self.feedforward_norm(x), index)

    def extend(self, state: KeyValues, x: Sequence, rotation: Rotation | None, stretch: Stretch) -> Sequence:
        """The next frames of one seat."""
        x = x + self.attention.extend(state, self.attention_norm(x), rotation, stretch)
        return x + self.feedforward(self.feedforward_norm(x))

    def remember(self, state: KeyValues, x: Sequence, rotation: Rotation | None, stretch: Stretch) -> None:
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
    """`L` blocks over a sliding window of `W` frames, and a last norm.

    With `steps` a sequence has so many positions and each has its own matrices (Moshi's depth
    transformer); norms are shared. `rope_base` None: no rotary positions. Without `last_norm` the output
    is the last block's.
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        window: int,
        *,
        feedforward_dim: int | None = None,
        norm_epsilon: float = NORM_EPSILON,
        rope_base: float | None = ROPE_BASE,
        steps: int | None = None,
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        self.window = window
        self.rotary = None if rope_base is None else Rotary(dim // heads, rope_base)
        self.blocks = nn.ModuleList(
            Block(dim, heads, window, feedforward_dim=feedforward_dim, norm_epsilon=norm_epsilon, steps=steps)
            for _ in range(layers)
        )
        self.norm = nn.RMSNorm(dim, eps=norm_epsilon) if last_norm else nn.Identity()

    def forward(
        self, x: Sequence, document: Int[Tensor, "B T"] | None = None, recompute: bool = False
    ) -> Sequence:
        """`[B, T, D]` to the same; output `t` depends on inputs up to `t`.

        `document` numbers the document that each frame is of, -1 for none: documents lie one after the
        other in a row, each begins at position 0, and none sees another. Without it a row is one document.
        With `recompute` the blocks' activations are computed again in the backward pass instead of kept
        (Chen et al. 2016, "Training deep nets with sublinear memory cost").
        """
        positions, seen = self._layout(x, document)
        rotation = self._rotation(positions)
        draws = self.training and any(block.dropout for block in self._blocks())
        for block in self.blocks:
            if recompute:
                x = checkpoint(block, x, rotation, seen, use_reentrant=False, preserve_rng_state=draws)
            else:
                x = block(x, rotation, seen)
        return self.norm(x)

    def _layout(
        self, x: Sequence, document: Int[Tensor, "B T"] | None
    ) -> tuple[Int[Tensor, "B_or_1 T"], Seen | None]:
        """Each frame's position, and what it sees; None is "all before it", which costs no mask."""
        length = x.shape[1]
        if document is not None:
            positions = since_start(document)
            if bool(((positions == 0) & (document >= 0))[:, 1:].any()):
                return positions, within_documents(positions, self.window)
        own = torch.arange(length, device=x.device)[None]
        return own, sliding_window(length, self.window, x.device) if length > self.window else None

    def _rotation(self, positions: Int[Tensor, "B T"]) -> Rotation | None:
        return None if self.rotary is None else self.rotary(positions)

    def drop(self, share: float) -> None:
        """In training, leave out so much of what each block adds."""
        for block in self._blocks():
            block.dropout = share

    def init_state(self, batch: int) -> TransformerState:
        """Fresh seats."""
        position, start = torch.zeros(2, batch, dtype=torch.int64, device=self._device)
        layers = tuple(block.attention.init_state(batch) for block in self._blocks())
        return TransformerState(position, start, layers)

    def step(
        self, state: TransformerState, x: Float[Tensor, "B D"], exec_mask: Mask, index: int | None = None
    ) -> Float[Tensor, "B D"]:
        """The next frame of each seat; state is updated in place where `exec_mask`.

        Rows outside `exec_mask` give finite values without meaning. `index` is the position whose own
        matrices are meant, the same for every seat, in a transformer that has `steps`.
        """
        rotation = self._rotation(state.position[:, None])
        seen = filled(state.position, self.window, state.start)
        for block, ring in zip(self._blocks(), state.layers, strict=True):
            x = block.step(ring, x, state.position, seen, rotation, exec_mask, index)
        update_(state.position, state.position + 1, exec_mask)
        return self.norm(x)

    def extend(self, state: TransformerState, x: Float[Tensor, "1 T D"], layers: int) -> None:
        """The next `T` frames of one seat at once, in place: the state of as many steps, up to rounding.

        `state` holds that seat alone (its rows as views). Only the first `layers`
        rings are written: for an old frame the higher ones are out of sight (`layers_reached`).
        """
        position, length, device = int(state.position), x.shape[1], x.device
        rotation = self._rotation(torch.arange(position, position + length, device=device)[None])
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

    @property
    def _device(self) -> torch.device:
        return self._blocks()[0].attention_norm.weight.device

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
