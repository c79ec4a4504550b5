"""What the user's last frames sound like: a window of their codes through a small network.

A transformer finds out slowly that neighbouring frames belong together; a network over a window is told so.
On the shipped dialogues one told nothing else heard more letters after a minute of training than the
transformer alone after an hour (docs/benchmarks/2026-11-21-s2s.md). It is trained for the letters that are
heard, which only training reads, and for whatever the transformer makes of what it hears.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from paluku.nn.embedding import SummedEmbedding
from paluku.nn.state import update_
from paluku.s2s.config import HearingConfig, S2SConfig
from paluku.shapes import Codes, Mask


class Heard(NamedTuple):
    """Of each frame: what is added to the transformer's input, and what the letters are told from."""

    features: Float[Tensor, "B T D"]
    hidden: Float[Tensor, "B T H"]


class Hearing(nn.Module):
    """`W` frames of codes, each embedded; two hidden layers; of each frame a vector as wide as the model."""

    def __init__(self, model: S2SConfig, config: HearingConfig) -> None:
        super().__init__()
        self.window, self.dropout = config.window, config.dropout
        self.codes = SummedEmbedding([model.codebook_size + 1] * model.num_codebooks, config.dim)
        self.norm = nn.RMSNorm(config.dim, eps=model.norm_epsilon)
        self.wide = nn.Linear(config.window * config.dim, config.hidden)
        self.mix = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, model.dim, bias=False)
        self.letters = nn.Linear(config.hidden, model.text_vocab, bias=False)
        self.is_frozen = False

    def freeze(self) -> None:
        """Learn no more what sounds like which letter: no gradient, no dropout, and nobody asks for letters.

        What the transformer makes of it (`out`) goes on learning: alone, nothing has trained it.
        """
        self.is_frozen = True
        self.requires_grad_(False).eval()
        self.out.requires_grad_(True)

    def train(self, mode: bool = True) -> "Hearing":
        """As a module's; one that is frozen hears as it will in use."""
        return super().train(mode and not self.is_frozen)

    def forward(self, user_codes: Codes, position: Int[Tensor, "B T"]) -> Heard:
        """Whole rows; nothing is heard of what lies before `position` 0 of a frame's document."""
        frames = F.pad(self._embedded(user_codes.transpose(1, 2)), (0, 0, self.window - 1, 0))
        windows = frames.unfold(1, self.window, 1).transpose(2, 3)  # [B, T, W, E], the frame itself last
        age = torch.arange(self.window - 1, -1, -1, device=position.device)
        windows = windows.masked_fill((age > position[..., None])[..., None], 0)
        hidden = self._hidden(windows.flatten(2))
        return Heard(self.out(hidden), hidden)

    def last(self, user_codes: Codes, lived: Int[Tensor, "B"]) -> Float[Tensor, "B H"]:
        """The hidden layer at the last frame of windows `[B, K, W]`, `lived` frames into its document."""
        age = torch.arange(self.window - 1, -1, -1, device=lived.device)
        frames = self._embedded(user_codes.transpose(1, 2)).masked_fill((age > lived[:, None])[..., None], 0)
        return self._hidden(frames.flatten(1))

    def init_state(self, batch: int) -> Float[Tensor, "B P E"]:
        """The last `W - 1` frames of each seat."""
        return self.codes.table.new_zeros(batch, self.window - 1, self.codes.table.shape[1])

    def step(
        self, state: Float[Tensor, "B P E"], user_codes: Int[Tensor, "B K"], exec_mask: Mask
    ) -> Float[Tensor, "B D"]:
        """The next frame of each seat."""
        seen = torch.cat((state, self._embedded(user_codes[:, None])), dim=1)
        update_(state, seen[:, 1:], exec_mask)
        return self.out(self._hidden(seen.flatten(1)))

    def remember_(self, state: Float[Tensor, "1 P E"], user_codes: Int[Tensor, "F K"]) -> None:
        """Bring one fresh seat to where it was after these frames, in place."""
        last = user_codes[max(0, len(user_codes) - state.shape[1]) :]
        if len(last):
            state[:, state.shape[1] - len(last) :] = self._embedded(last[None])

    def _embedded(self, user_codes: Int[Tensor, "B T K"]) -> Float[Tensor, "B T E"]:
        return self.norm(self.codes(user_codes.flatten(0, 1)).unflatten(0, user_codes.shape[:2]))

    def _hidden(self, windows: Float[Tensor, "*B WE"]) -> Float[Tensor, "*B H"]:
        x = F.dropout(windows, self.dropout / 2, self.training)
        x = F.dropout(F.silu(self.wide(x)), self.dropout, self.training)
        return F.dropout(F.silu(self.mix(x)), self.dropout, self.training)
