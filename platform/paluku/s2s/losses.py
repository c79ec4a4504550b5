"""Cross-entropy of each stream: our text, the user's text, then our `K` codebooks in the delay layout.

Every answer has a weight, and a loss is a weighted mean over all of a step's answers. Sums and weights are
kept apart, so that several workers and several batches make exactly one mean. Beside them stand the plain
sums that are reported: nats, answers, right ones.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paluku.s2s.model import Logits
from paluku.shapes import Codes
from paluku.tokens.batches import TokenBatch
from paluku.tokens.text import PAD

MASKED = -100

# A word's tokens stand where it begins, and hardly any word lasts longer than a second. What is heard of it
# before its first token: a breath, and what the alignment is wrong by.
SOUNDS_AFTER_TEXT_FRAMES, SOUNDS_BEFORE_TEXT_FRAMES = 25, 5


class StreamWeights(NamedTuple):
    """What a stream counts in the loss (beside `codes`: 1), and what a frame counts in its stream."""

    text: float = 1.0
    user_text: float = 0.5
    first_code: float = 8.0  # of codebook 0 beside 1 for each other one (Moshi, section 4.1: 100)
    pad: float = 0.5  # of a text frame without text (Moshi, section 4.1)
    silence: float = 1.0  # of the codes of a frame in which we say nothing


class Targets(NamedTuple):
    """What each stream should say, `MASKED` where nothing is asked; and what each answer counts."""

    text: Int[Tensor, "B T"]
    user_text: Int[Tensor, "B T"] | None
    codes: Int[Tensor, "M K"]
    text_weights: Float[Tensor, "B T"]
    user_text_weights: Float[Tensor, "B T"]
    code_weights: Float[Tensor, "M K"]

    def total_weights(self) -> Float[Tensor, "N"]:
        """What all answers of each stream count together."""
        texts = [self.text_weights.sum()] + ([] if self.user_text is None else [self.user_text_weights.sum()])
        return torch.cat((torch.stack(texts), self.code_weights.sum(dim=0)))


class Tally(NamedTuple):
    """Sums over positions, by stream. Text is judged where there is any, codes everywhere."""

    loss: Float[Tensor, "N"]  # weighted nats: what is differentiated
    nats: Float[Tensor, "N"]
    answers: Float[Tensor, "N"]
    right: Float[Tensor, "N"]  # of the judged ones, where the likeliest token is the true one
    judged: Float[Tensor, "N"]


def stream_names(num_codebooks: int, user_text: bool = True) -> list[str]:
    """`text`, `user_text` where the model has it, `codes_0`, `codes_1`, ..."""
    return ["text", *["user_text"] * user_text, *(f"codes_{k}" for k in range(num_codebooks))]


def targets(
    batch: TokenBatch,
    own: Codes,
    depth_at: Int[Tensor, "M"] | None,
    codebook_size: int,
    weights: StreamWeights,
    *,
    user_text: bool = True,
) -> Targets:
    """What a model should say of a batch; `own` is `S2SModel.delayed(agent_codes, document)`.

    `depth_at` are the positions (`b * T + t`) at which codes are asked for; None: at all. Frames of no
    document, and those of the layout that stand for no frame (tokens past the codebook), are not asked.
    """
    inside = batch.document >= 0
    text, heard = (torch.where(inside, tokens, MASKED) for tokens in (batch.text, batch.user_text))
    codes = torch.where(inside[:, None] & (own < codebook_size), own, MASKED)
    sounds = says_something(batch.text, batch.document)
    shares = torch.where(sounds, 1.0, weights.silence)[:, None] * (codes != MASKED)
    return Targets(
        text,
        heard if user_text else None,
        _at(codes, depth_at),
        _text_weights(text, weights.pad),
        _text_weights(heard, weights.pad),
        _at(shares, depth_at),
    )


def _text_weights(tokens: Int[Tensor, "B T"], pad: float) -> Float[Tensor, "B T"]:
    return torch.where(tokens == PAD, pad, 1.0) * (tokens != MASKED)


def _at(x: Tensor, positions: Tensor | None) -> Tensor:
    """`[B, K, T]` to `[M, K]`."""
    flat = x.transpose(1, 2).flatten(0, 1)
    return flat if positions is None else flat[positions]


def says_something(text: Int[Tensor, "B T"], document: Int[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """Whether our speech may be heard in a frame: text of the same document lies close enough.

    No further back than `SOUNDS_AFTER_TEXT_FRAMES`, no further ahead than `SOUNDS_BEFORE_TEXT_FRAMES`.
    """
    place = torch.arange(text.shape[1], device=text.device).expand_as(text)
    never = -(SOUNDS_AFTER_TEXT_FRAMES + SOUNDS_BEFORE_TEXT_FRAMES) - text.shape[1]
    last = torch.where(text != PAD, place, never).cummax(dim=1).values
    following = -torch.where(text != PAD, -place, never).flip(1).cummax(dim=1).values.flip(1)
    after = (place - last <= SOUNDS_AFTER_TEXT_FRAMES) & _same(document, last)
    return after | ((following - place <= SOUNDS_BEFORE_TEXT_FRAMES) & _same(document, following))


def _same(document: Int[Tensor, "B T"], place: Int[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    return document == document.gather(1, place.clamp(0, document.shape[1] - 1))


def tally(logits: Logits, asked: Targets) -> Tally:
    """Compare. Where nothing is asked there is no loss, and a gradient of exactly 0."""
    parts = [_compare_text(logits.text, asked.text, asked.text_weights)]
    if asked.user_text is not None:
        assert logits.user_text is not None, "the model has no user_text head"
        parts.append(_compare_text(logits.user_text, asked.user_text, asked.user_text_weights))
    parts.append(_compare(logits.codes, asked.codes, asked.code_weights, asked.codes != MASKED))
    return Tally(*(torch.cat(sums) for sums in zip(*parts, strict=True)))


def _compare_text(logits: Tensor, asked: Tensor, weights: Tensor) -> list[Tensor]:
    """A `Tally` of one stream, from `[B, T, V]` and twice `[B, T]`."""
    asked = asked.flatten()[:, None]
    return _compare(logits.flatten(0, 1)[:, None], asked, weights.flatten()[:, None], asked > PAD)


def _compare(
    logits: Float[Tensor, "A C V"],
    asked: Int[Tensor, "A C"],
    weights: Float[Tensor, "A C"],
    judged: Bool[Tensor, "A C"],
) -> list[Tensor]:
    """A `Tally` of `C` streams, from `A` answers of each."""
    flat = F.cross_entropy(logits.flatten(0, 1), asked.flatten(), ignore_index=MASKED, reduction="none")
    nats = flat.view_as(asked)
    with torch.no_grad():
        right = (logits.argmax(dim=-1) == asked) & judged
    sums = [weights * nats, nats.detach(), (asked != MASKED).float(), right.float(), judged.float()]
    return [part.sum(dim=0) for part in sums]


def total(means: Float[Tensor, "N"], weights: StreamWeights, num_codebooks: int) -> Float[Tensor, ""]:
    """What is trained on, from the streams' weighted means: the codebooks' mean, and the texts'."""
    texts, codes = means[:-num_codebooks], means[-num_codebooks:]
    shares = torch.ones_like(codes)
    shares[0] = weights.first_code
    by_text = torch.tensor([weights.text, weights.user_text], device=means.device)
    return (by_text[: len(texts)] * texts).sum() + (shares * codes).sum() / shares.sum()
