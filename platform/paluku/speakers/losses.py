"""What a speaker encoder is trained on: to tell the speakers of the corpus from each other, by angle."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

# A cosine of exactly 1 has no sine that can be differentiated.
LEAST_SINE_SQUARED = 1e-7


class Told(NamedTuple):
    """Scalars: the loss, and the share of vectors whose nearest speaker is their own."""

    loss: Float[Tensor, ""]
    accuracy: Float[Tensor, ""]


class AngularMarginSoftmax(nn.Module):
    """Additive angular margin softmax (Deng et al. 2019, "ArcFace", equation 3).

    A vector must be nearer to its own speaker's centre than to all others by `margin` radians.
    """

    def __init__(self, dim: int, speakers: int, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        self.centres = nn.Parameter(torch.randn(speakers, dim) / math.sqrt(dim))

    def forward(self, vectors: Float[Tensor, "B E"], speakers: Int[Tensor, "B"], margin: float) -> Told:
        """Cross-entropy in nats of vectors of unit length, whose speakers are numbers below `speakers`."""
        cosines = vectors @ F.normalize(self.centres, dim=-1).T
        own = cosines.gather(1, speakers[:, None])
        logits = self.scale * cosines.scatter(1, speakers[:, None], moved_away(own, margin))
        accuracy = (cosines.argmax(dim=1) == speakers).float().mean()
        return Told(F.cross_entropy(logits, speakers), accuracy)


def moved_away(cosine: Float[Tensor, "B 1"], margin: float) -> Float[Tensor, "B 1"]:
    """cos(angle + margin); beyond 180 degrees, where that would rise again, a straight line going down.

    The line is `cosine - margin sin(margin)`, as in the authors' implementation.
    """
    sine = (1 - cosine.square()).clamp(min=LEAST_SINE_SQUARED).sqrt()
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), moved, cosine - margin * math.sin(margin))
