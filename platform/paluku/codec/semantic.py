"""The first codebook tied to a frozen speech encoder: a code for what is said, not for how it sounds.

A small causal network hears from the codec's own latents what the frozen encoder heard (`corpus.teacher`),
and the nearest of its usual outputs is the code (as HuBERT's units and Mimi's first codebook, Défossez et al.
2024, section 3.3.2; there a bottleneck is trained, here its codebook is set by k-means). The sound that
frames of a code have on average is the first codebook's entry: the others code what differs from it.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from paluku.config import Config
from paluku.nn.conv import CausalNet
from paluku.nn.state import State, leaves
from paluku.shapes import Latent, Mask


class SemanticConfig(Config):
    """Sizes of the network, and by how much its code lags."""

    dim: int = Field(default=64, ge=1)  # of the teacher's features
    hidden: int = Field(default=192, ge=1)
    units: int = Field(default=3, ge=0)
    # The code of frame t tells what was said at t - delay: a teacher that hears the whole utterance knows a
    # sound by what follows it. Two frames took a tenth off the distance to it.
    delay_frames: int = Field(default=2, ge=0)


class SemanticCodebook(nn.Module):
    """Codes `[B, T]` of latents `[B, D, T]`, out of `size` entries."""

    mean: Float[Tensor, "D"]
    deviation: Float[Tensor, "D"]
    entries: Float[Tensor, "V E"]

    def __init__(self, latent_dim: int, size: int, config: SemanticConfig) -> None:
        super().__init__()
        self.config = config
        self.net = CausalNet(latent_dim, config.hidden, config.dim, config.units)
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("deviation", torch.ones(latent_dim))
        self.register_buffer("entries", normalize(torch.randn(size, config.dim), dim=1))

    @property
    def reach_frames(self) -> int:
        """How many frames back the network hears."""
        return sum(leaf.shape[-1] for leaf in leaves(self.net.init_state(1)))

    def forward(self, latents: Latent) -> Float[Tensor, "B E T"]:
        """What was said, as the teacher would put it: unit vectors."""
        return normalize(self.net(self._scaled(latents)), dim=1)

    @torch.no_grad()
    def codes(self, latents: Latent) -> Int[Tensor, "B T"]:
        """The whole sequence at once."""
        return self._nearest(self.net(self._scaled(latents)))

    def init_state(self, batch: int) -> State:
        """Fresh seats."""
        return self.net.init_state(batch)

    @torch.no_grad()
    def step(self, state: State, latents: Latent, exec_mask: Mask) -> Int[Tensor, "B T"]:
        """The next frames of each seat."""
        return self._nearest(self.net.step(state, self._scaled(latents), exec_mask))

    def _scaled(self, latents: Latent) -> Latent:
        return (latents - self.mean[:, None]) / self.deviation[:, None]

    def _nearest(self, said: Float[Tensor, "B E T"]) -> Int[Tensor, "B T"]:
        # Entries have no one length (they are means of unit vectors), so the nearest is not the best aligned.
        unit = normalize(said, dim=1).transpose(1, 2)
        return (self.entries.square().sum(dim=1) - 2 * unit @ self.entries.T).argmin(dim=-1)
