"""The full-duplex S2S model: a temporal transformer over frames, a depth transformer within a frame.

After Moshi (Défossez et al. 2024, arXiv:2410.00037, sections 3.4.1 to 3.4.4). At position `t` the
temporal transformer takes the sum of embeddings of the user's codes of frame `t` and of our own text
token and codes of position `t - 1`. From its output come the text token of `t` and then, one by one in
the depth transformer, our codes of position `t`: codebook 0 of frame `t`, the others of frame
`t - acoustic_delay` (`tokens.layout`).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from paluku.config import Config
from paluku.nn.transformer import Transformer
from paluku.s2s.conditioning import Conditioning
from paluku.shapes import Codes
from paluku.tokens.layout import acoustic_delays, delay
from paluku.tokens.text import CharTokenizer

# The deviation that keeps a transformer's first outputs near zero whatever its width (GPT-2's choice).
INIT_DEVIATION = 0.02


class DepthConfig(Config):
    """The transformer within a frame."""

    dim: int = Field(default=64, ge=2)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)


class S2SConfig(Config):
    """The demo's size: 1.9 million parameters, a window of 10 s."""

    num_codebooks: int = Field(default=8, ge=1)
    codebook_size: int = Field(default=256, ge=2)
    text_vocab: int = Field(default=CharTokenizer().vocab_size, ge=2)
    dim: int = Field(default=128, ge=2)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    window: int = Field(default=250, ge=1)  # frames the temporal transformer sees, its own included
    depth: DepthConfig = DepthConfig()
    acoustic_delay: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _heads_fit(self) -> "S2SConfig":
        for name, dim, heads in (
            ("heads", self.dim, self.heads),
            ("depth.heads", self.depth.dim, self.depth.heads),
        ):
            if dim % (2 * heads):
                raise ValueError(f"{name} is {heads}; a width of {dim} has no even share for each")
        return self

    @property
    def delays(self) -> tuple[int, ...]:
        """Of each codebook, in positions."""
        return acoustic_delays(self.num_codebooks, self.acoustic_delay)

    @property
    def pad_code(self) -> int:
        """The token of our own codes that stands for no frame, and for "nothing yet"."""
        return self.codebook_size

    @property
    def initial_text(self) -> int:
        """The text token before the first: an input only."""
        return self.text_vocab


class Logits(NamedTuple):
    """What the model says of every position of the delayed layout."""

    text: Float[Tensor, "B T Vt"]
    codes: Float[Tensor, "B K T V"]


class SummedEmbedding(nn.Module):
    """One table for several streams of tokens; gives the sum of one row from each."""

    offsets: Int[Tensor, "N"]

    def __init__(self, sizes: list[int], dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.table = nn.Parameter(torch.empty(sum(sizes), dim))
        self.register_buffer("offsets", torch.tensor([0, *sizes]).cumsum(0)[:-1], persistent=False)

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B D"]:
        """Stream `n`'s token lies in `[0, sizes[n])`."""
        return F.embedding_bag(tokens + self.offsets, self.table, mode="sum")


class DepthModel(nn.Module):
    """Codes of one position, each from the temporal output, the text token and the codes before it.

    Step `k` adds the temporal output, through a projection of its own, to the embedding of the step's
    token (the text token at step 0, code `k - 1` after it), and predicts code `k` (Moshi, section 3.4.2).
    The transformer's weights are shared by the steps.
    """

    def __init__(self, config: S2SConfig) -> None:
        super().__init__()
        dim, K = config.depth.dim, config.num_codebooks
        self.from_temporal = nn.Linear(config.dim, K * dim, bias=False)
        self.text = nn.Embedding(config.text_vocab, dim)
        self.codes = nn.ModuleList(nn.Embedding(config.codebook_size + 1, dim) for _ in range(K - 1))
        self.transformer = Transformer(dim, config.depth.layers, config.depth.heads, window=K)
        self.heads = nn.ModuleList(nn.Linear(dim, config.codebook_size, bias=False) for _ in range(K))

    def forward(
        self, temporal: Float[Tensor, "N D"], text: Int[Tensor, "N"], codes: Int[Tensor, "N K"]
    ) -> Float[Tensor, "N K V"]:
        """All steps at once, given the tokens of `N` positions."""
        embedded = [self.text(text), *(self.codes[k](codes[:, k]) for k in range(len(self.codes)))]
        hidden = self.transformer(torch.stack(embedded, dim=1) + self.projected(temporal))
        return torch.stack([head(hidden[:, k]) for k, head in enumerate(self.heads)], dim=1)

    def projected(self, temporal: Float[Tensor, "N D"]) -> Float[Tensor, "N K E"]:
        """What each step takes from the temporal transformer."""
        return self.from_temporal(temporal).unflatten(-1, (len(self.heads), -1))

    def embed(self, k: int, token: Int[Tensor, "N"]) -> Float[Tensor, "N E"]:
        """The token that step `k` begins with."""
        return self.text(token) if k == 0 else self.codes[k - 1](token)


class S2SModel(nn.Module):
    """See the module. `s2s.duplex` is the same model a frame at a time."""

    def __init__(self, config: S2SConfig) -> None:
        super().__init__()
        self.config = config
        K, V = config.num_codebooks, config.codebook_size
        sizes = [*[V] * K, config.text_vocab + 1, *[V + 1] * K]
        self.embedding = SummedEmbedding(sizes, config.dim)
        self.conditioning = Conditioning(config.dim)
        self.temporal = Transformer(config.dim, config.layers, config.heads, config.window)
        self.text_head = nn.Linear(config.dim, config.text_vocab, bias=False)
        self.depth = DepthModel(config)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=INIT_DEVIATION)

    def forward(
        self,
        agent_codes: Codes,
        user_codes: Codes,
        text: Int[Tensor, "B T"],
        voice: Int[Tensor, "B"],
        style: Int[Tensor, "B"],
    ) -> Logits:
        """What the model says of each position, given the true tokens before it.

        The sequence begins as a fresh session does. `agent_codes` are frames, not yet delayed.
        """
        B, K, T = agent_codes.shape
        own = self.delayed(agent_codes)
        before = self._before(text, own)
        x = self.embed(user_codes.transpose(1, 2).reshape(B * T, K), before.flatten(0, 1)).unflatten(
            0, (B, T)
        )
        hidden = self.temporal(x + self.conditioning(voice, style)[:, None])
        codes = self.depth(hidden.flatten(0, 1), text.flatten(), own.transpose(1, 2).reshape(B * T, K))
        return Logits(self.text_head(hidden), codes.unflatten(0, (B, T)).transpose(1, 2))

    def delayed(self, agent_codes: Codes) -> Codes:
        """The first `T` positions of the delay layout: what the model predicts."""
        return delay(agent_codes, self.config.delays, self.config.pad_code)[..., : agent_codes.shape[-1]]

    def initial(self, batch: int) -> Int[Tensor, "B N"]:
        """Our tokens before the first position: `1 + K` a row, text first."""
        K = self.config.num_codebooks
        row = torch.tensor([self.config.initial_text, *[self.config.pad_code] * K])
        return row.to(self.text_head.weight.device).expand(batch, -1)

    def embed(self, user: Int[Tensor, "B K"], before: Int[Tensor, "B N"]) -> Float[Tensor, "B D"]:
        """The temporal input before conditioning: the user's codes, our tokens of the position before."""
        return self.embedding(torch.cat((user, before), dim=1))

    def _before(self, text: Int[Tensor, "B T"], own: Codes) -> Int[Tensor, "B T N"]:
        tokens = torch.cat((text[:, None], own), dim=1).transpose(1, 2)
        return torch.cat((self.initial(len(text))[:, None], tokens[:, :-1]), dim=1)
