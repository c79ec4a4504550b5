"""Cross-entropy of each stream: our text, then our `K` codebooks in the delay layout.

Sums and counts are kept apart, so that several workers (and several batches) can be averaged exactly.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paluku.s2s.model import Logits
from paluku.shapes import Codes

MASKED = -100


class StreamSums(NamedTuple):
    """Summed cross-entropy (nats) and how many tokens it is of, by stream: text first."""

    sums: Float[Tensor, "N"]
    counts: Float[Tensor, "N"]


def stream_names(num_codebooks: int) -> list[str]:
    """`text`, `codes_0`, `codes_1`, ..."""
    return ["text", *(f"codes_{k}" for k in range(num_codebooks))]


def stream_sums(
    logits: Logits, text: Int[Tensor, "B T"], own: Codes, valid: Bool[Tensor, "B T"]
) -> StreamSums:
    """Compare logits to the true text and to our codes in the delay layout (`S2SModel.delayed`).

    Positions outside `valid`, and those of the layout that stand for no frame (tokens past the
    codebook), have no loss and a gradient of exactly 0.
    """
    V = logits.codes.shape[-1]
    text_targets = torch.where(valid, text, MASKED)
    code_targets = torch.where(valid[:, None] & (own < V), own, MASKED)
    sums = [_sum(logits.text, text_targets)]
    sums += [_sum(logits.codes[:, k], code_targets[:, k]) for k in range(own.shape[1])]
    targets = torch.cat((text_targets[:, None], code_targets), dim=1)
    return StreamSums(torch.stack(sums), (targets != MASKED).sum(dim=(0, 2)).float())


def _sum(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=MASKED, reduction="sum")


def total(means: Float[Tensor, "N"], text_weight: float) -> Float[Tensor, ""]:
    """What is trained on: the codebooks' mean, and the text with its weight."""
    return text_weight * means[0] + means[1:].mean()
