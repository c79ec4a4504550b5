"""What the user is saying, as far as the last two seconds tell: a causal network over the user's codes.

A transformer that predicts both sides finds out slowly what speech is made of. This network is told: it is
trained by itself for the sounds that are heard and the tokens of the words they make, by connectionist
temporal classification (Graves et al. 2006, ICML, "Connectionist Temporal Classification"), and for what is
asked (`training.hearing_loop`). The transformer reads what it hears from its last layer.

Residual blocks of three dilated taps, as in WaveNet (van den Oord et al. 2016) with wider feed-forward
layers: what counts is matrix products, in training and for many seats at once.
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
from paluku.tokens.text import PAD

TAPS = 3  # frames that a block sees: this one, and those `dilation` and twice `dilation` before
TURN_FRAMES = 40  # sums over a turn's frames are divided by this, the length of a short one


class Heard(NamedTuple):
    """Of each frame: what the transformer is told; what sounds, words' tokens and intents are read from.

    Intents from the sum of `gist` over a turn's frames, divided by `TURN_FRAMES`.
    """

    features: Float[Tensor, "B T D"]
    sounds: Float[Tensor, "B T W"]
    words: Float[Tensor, "B T W"]
    gist: Float[Tensor, "B T D"]


class HearingState(NamedTuple):
    """Of each seat's last frames, oldest first: what each block has seen, block by block; their gist."""

    blocks: Float[Tensor, "B P W"]
    gist: Float[Tensor, "B G D"]


class HearingBlock(nn.Module):
    """`x + out(silu(wide(taps of norm(x))))`."""

    def __init__(self, config: HearingConfig, dilation: int, epsilon: float) -> None:
        super().__init__()
        self.dilation, self.dropout, self.epsilon = dilation, config.dropout, epsilon
        self.wide = nn.Linear(TAPS * config.width, config.hidden)
        self.out = nn.Linear(config.hidden, config.width)

    @property
    def past(self) -> int:
        """Frames before the present one that it needs."""
        return (TAPS - 1) * self.dilation

    def normed(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"]:
        """What its taps take; the scale of the norm is the wide layer's."""
        return F.rms_norm(x, x.shape[-1:], eps=self.epsilon)

    def forward(
        self, x: Float[Tensor, "B T W"], taps: list[Float[Tensor, "B T W"]]
    ) -> Float[Tensor, "B T W"]:
        """`taps` of what is `normed`, oldest first."""
        hidden = F.silu(self.wide(torch.cat(taps, dim=-1)))
        return x + self.out(_dropped(hidden, self.dropout if self.training else 0.0))


def _dropped(x: Float[Tensor, "B T C"], share: float) -> Float[Tensor, "B T C"]:
    """Channels of whole rows: a number for each of its frames costs more than it brings."""
    if not share:
        return x
    kept = torch.rand(len(x), 1, x.shape[2], device=x.device) >= share
    return x * (kept.to(x.dtype) / (1 - share))


class Hearing(nn.Module):
    """Codes of frames, embedded; blocks; of each frame a vector as wide as the model."""

    def __init__(self, model: S2SConfig, config: HearingConfig) -> None:
        super().__init__()
        self.config, self.epsilon = config, model.norm_epsilon
        self.codes = SummedEmbedding([model.codebook_size + 1] * model.num_codebooks, config.dim)
        self.narrow = nn.Linear(config.dim, config.width)
        self.blocks = nn.ModuleList(
            HearingBlock(config, dilation, model.norm_epsilon) for dilation in config.dilations
        )
        self.evidence = nn.Linear(config.width, config.evidence)
        self.out = nn.Linear(config.width + config.evidence, model.dim, bias=False)
        self.gist, self.gathered = None, None
        if config.gathers:
            self.gist = nn.Linear(config.width + config.evidence, model.dim, bias=False)
            self.gathered = nn.Linear(model.dim, model.dim, bias=False)
        self.tokens = nn.Linear(config.width, model.text_vocab)  # of `words`; PAD: nothing new
        self.is_frozen = False

    def freeze(self) -> None:
        """Learn no more what sounds like what: no gradient, no dropout.

        What is added to the transformer's input goes on learning: it is the transformer that reads it.
        """
        self.is_frozen = True
        self.requires_grad_(False).eval()
        for layer in (self.out, self.gathered):
            if layer is not None:
                layer.requires_grad_(True)

    def train(self, mode: bool = True) -> "Hearing":
        """As a module's; one that is frozen hears as it will in use."""
        return super().train(mode and not self.is_frozen)

    def forward(self, user_codes: Codes, position: Int[Tensor, "B T"]) -> Heard:
        """Whole rows; nothing is heard of what lies before `position` 0 of a frame's document."""
        x = self._embedded(user_codes)
        sounds = x
        for number, block in enumerate(self._blocks):
            if number == self.config.sounds_after:
                sounds = x
            y, T = block.normed(x), x.shape[1]
            taps = []
            for lag in (2 * block.dilation, block.dilation, 0):
                earlier = F.pad(y, (0, 0, lag, 0))[:, :T]
                taps.append(earlier.masked_fill((position < lag)[..., None], 0) if lag else earlier)
            x = block(x, taps)
        heard = self._heard(x, sounds)
        return heard if self.gathered is None else self._told(heard, self._summed(heard.gist, position))

    def init_state(self, batch: int) -> HearingState:
        """Of seats that have heard nothing yet."""
        zeros, config = self.codes.table.new_zeros, self.config
        earlier = max(0, config.gathers - 1)
        return HearingState(
            zeros(batch, config.block_past, config.width), zeros(batch, earlier, self.out.out_features)
        )

    def stream(self, state: HearingState, user_codes: Codes, exec_mask: Mask) -> Heard:
        """The next `T` frames of each seat."""
        x, first = self._embedded(user_codes), 0
        sounds, T, pasts = x, x.shape[1], []
        for number, block in enumerate(self._blocks):
            if number == self.config.sounds_after:
                sounds = x
            seen = torch.cat((state.blocks[:, first : first + block.past], block.normed(x)), dim=1)
            x = block(x, [seen[:, lag : lag + T] for lag in (0, block.dilation, 2 * block.dilation)])
            pasts.append(seen[:, T:])
            first += block.past
        update_(state.blocks, torch.cat(pasts, dim=1), exec_mask)  # at once: views of it cannot be compiled
        heard = self._heard(x, sounds)
        if self.gathered is None:
            return heard
        gist = torch.cat((state.gist, heard.gist), dim=1)
        summed = gist.unfold(1, self.config.gathers, 1).sum(dim=-1)
        update_(state.gist, gist[:, T:], exec_mask)
        return self._told(heard, summed)

    def told(
        self, words: Float[Tensor, "B W"], before: Int[Tensor, "B"]
    ) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
        """The likeliest class of a frame, and the token it tells: none where the class was the one before."""
        now = self.tokens(words).argmax(dim=1)
        return now, now.masked_fill(now == before, PAD)

    @property
    def _blocks(self) -> list[HearingBlock]:
        return [block for block in self.blocks if isinstance(block, HearingBlock)]

    def _embedded(self, user_codes: Codes) -> Float[Tensor, "B T W"]:
        rows = user_codes.transpose(1, 2)
        summed = self.codes(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        return self.narrow(F.rms_norm(summed, summed.shape[-1:], eps=self.epsilon))

    def _heard(self, x: Float[Tensor, "B T W"], sounds: Float[Tensor, "B T W"]) -> Heard:
        words, sounds = (F.rms_norm(each, each.shape[-1:], eps=self.epsilon) for each in (x, sounds))
        evidence = F.relu(self.evidence(words))
        evidence = _dropped(evidence, self.config.drop_evidence if self.training else 0.0)
        both = torch.cat((words, evidence), dim=-1)
        features = self.out(both)
        return Heard(features, sounds, words, features if self.gist is None else self.gist(both))

    def _summed(self, gist: Float[Tensor, "B T D"], position: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Over the last `gathers` frames of the document.

        A matrix of ones where they lie: differences of running sums would know, by their rounding, of others.
        """
        frames = torch.arange(gist.shape[1], device=gist.device)
        lag = frames[:, None] - frames
        reach = (position + 1).clamp(max=self.config.gathers)
        return ((lag >= 0) & (lag < reach[..., None])).to(gist.dtype) @ gist

    def _told(self, heard: Heard, summed: Float[Tensor, "B T D"]) -> Heard:
        assert self.gathered is not None, "whoever calls has seen to it"
        return heard._replace(features=heard.features + self.gathered(summed / TURN_FRAMES))
