"""Causal self-attention over the last `W` frames: a whole sequence at once, or a frame at a time.

The stream keeps keys and values in a ring of `W` slots per seat: the frame at position `p` lies in slot
`p mod W` until position `p + W` takes it. The full-sequence form sees the same sliding window, so that
both agree at any length. Keys are stored rotated by their own position (see `rope`). A row of the
full-sequence form may hold several documents, one after the other: none sees another.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from paluku.nn.rope import Rotation, rotate
from paluku.nn.step_linear import linear
from paluku.shapes import Mask, Sequence

# By row (query), `[T, T]` or `[B, 1, T, T]`: the frames (keys) that it sees.
Seen = Bool[Tensor, "*B T T"]


class KeyValues(NamedTuple):
    """A ring cache; empty slots are zero and not attended to."""

    keys: Float[Tensor, "B H W E"]
    values: Float[Tensor, "B H W E"]


class Stretch(NamedTuple):
    """Where `T` frames of one seat come to lie, and what each of them sees; the same for every layer."""

    past: Int[Tensor, "P"]  # slots of the frames before it that it may see, oldest first
    slots: Int[Tensor, "T2"]  # where its last `T2 = min(T, W)` frames go
    seen: Bool[Tensor, "T P_and_T"]  # by row (query): the past frames and the stretch's own


class CausalSelfAttention(nn.Module):
    """`H` heads of `E = D / H` channels that see their own frame and the `W - 1` before it.

    With `steps`, each of so many positions has its own projections (`StepLinear`). A rotation of `None`
    turns nothing.
    """

    def __init__(self, dim: int, heads: int, window: int, steps: int | None = None) -> None:
        super().__init__()
        assert dim % heads == 0, f"{heads} heads do not divide a width of {dim}"
        self.heads, self.channels, self.window = heads, dim // heads, window
        self.project_in = linear(dim, 3 * dim, steps)
        self.project_out = linear(dim, dim, steps)

    def forward(self, x: Sequence, rotation: Rotation | None, seen: Seen | None = None) -> Sequence:
        """The whole sequence. Without `seen` it is one document that begins at position 0."""
        queries, keys, values = self._split(x)
        length = x.shape[1]
        if seen is None and length > self.window:
            seen = sliding_window(length, self.window, x.device)
        attended = F.scaled_dot_product_attention(
            rotate(queries, rotation),
            rotate(keys, rotation),
            values,
            attn_mask=seen,
            is_causal=seen is None,
        )
        return self.project_out(attended.transpose(1, 2).flatten(2))

    def init_state(self, batch: int) -> KeyValues:
        """Empty rings."""
        shape = batch, self.heads, self.window, self.channels
        return KeyValues(self.project_in.weight.new_zeros(shape), self.project_in.weight.new_zeros(shape))

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
        """The next frame of each seat, at `position`; `seen` are the slots that hold a frame (`filled`).

        `index` is the position whose own projections are meant, where each has its own.
        """
        queries, keys, values = self._split(x[:, None], index)
        write_(state.keys, rotate(keys, rotation)[:, :, 0], position, exec_mask)
        write_(state.values, values[:, :, 0], position, exec_mask)
        attended = F.scaled_dot_product_attention(
            rotate(queries, rotation), state.keys, state.values, attn_mask=seen[:, None, None]
        )
        return self.project_out(attended.flatten(1), index)

    def extend(self, state: KeyValues, x: Sequence, rotation: Rotation | None, stretch: Stretch) -> Sequence:
        """The next `T` frames of the only seat, `[1, T, D]`; equals as many steps."""
        queries, keys, values = self._split(x)
        keys = rotate(keys, rotation)
        all_keys = torch.cat((state.keys[:, :, stretch.past], keys), dim=2)
        all_values = torch.cat((state.values[:, :, stretch.past], values), dim=2)
        _place_(state, keys, values, stretch)
        attended = F.scaled_dot_product_attention(
            rotate(queries, rotation), all_keys, all_values, attn_mask=stretch.seen
        )
        return self.project_out(attended.transpose(1, 2).flatten(2))

    def remember(self, state: KeyValues, x: Sequence, rotation: Rotation | None, stretch: Stretch) -> None:
        """`extend` without the output: only what later frames will see of these."""
        _, keys, values = self._split(x)
        _place_(state, rotate(keys, rotation), values, stretch)

    def _split(self, x: Sequence, index: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each `[B, H, T, E]`."""
        heads = self.project_in(x, index).unflatten(-1, (3, self.heads, self.channels))
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        return queries, keys, values


def sliding_window(length: int, window: int, device: torch.device) -> Bool[Tensor, "T T"]:
    """True where row (query) may see column (key)."""
    place = torch.arange(length, device=device)
    age = place[:, None] - place
    return (age >= 0) & (age < window)


def since_start(document: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Each frame's position in its document: documents are runs of equal numbers in a row."""
    place = torch.arange(document.shape[1], device=document.device)
    begins = torch.ones_like(document, dtype=torch.bool)
    begins[:, 1:] = document[:, 1:] != document[:, :-1]
    return place - torch.where(begins, place, 0).cummax(dim=1).values


def within_documents(positions: Int[Tensor, "B T"], window: int) -> Bool[Tensor, "B 1 T T"]:
    """True where row (query) may see column (key): of its own document, in the window, not later."""
    place = torch.arange(positions.shape[1], device=positions.device)
    age = place[:, None] - place
    return ((age >= 0) & (age <= positions.clamp(max=window - 1)[..., None]))[:, None]


def filled(position: Int[Tensor, "B"], window: int, start: Int[Tensor, "B"] | int = 0) -> Bool[Tensor, "B W"]:
    """Which slots hold a frame once `position` is written: all, from `W - 1` frames after `start` on."""
    slots = torch.arange(window, device=position.device)
    lived = torch.as_tensor(position - start)
    return (position[:, None] - slots) % window <= lived[:, None]


def stretch_of(start: int, position: int, length: int, window: int, device: torch.device) -> Stretch:
    """Frames `position` to `position + length` of a seat that began at `start`."""
    past = min(position - start, window - 1)
    place = torch.arange(position - past, position + length, device=device)
    own = place[past:]
    age = own[:, None] - place
    return Stretch(place[:past] % window, own[-window:] % window, (age >= 0) & (age < window))


def _place_(
    state: KeyValues, keys: Float[Tensor, "1 H T E"], values: Float[Tensor, "1 H T E"], stretch: Stretch
) -> None:
    """Put the stretch's last frames in their slots, in place."""
    kept = len(stretch.slots)
    state.keys[:, :, stretch.slots] = keys[:, :, -kept:]
    state.values[:, :, stretch.slots] = values[:, :, -kept:]


def write_(
    ring: Float[Tensor, "B H W E"],
    value: Float[Tensor, "B H E"],
    position: Int[Tensor, "B"],
    exec_mask: Mask,
) -> None:
    """Put each seat's value in its slot, in place, where `exec_mask`; touches one slot a seat only."""
    seats, slots = torch.arange(len(ring), device=ring.device), position % ring.shape[2]
    ring[seats, :, slots] = torch.where(exec_mask[:, None, None], value, ring[seats, :, slots])
