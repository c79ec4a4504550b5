"""Losses of a GAN on verdicts: pure functions, in float32 whatever autocast made the verdicts in.

Each discriminator counts the same, each of its logits the same within it (EnCodec, Défossez et al. 2022,
section 3.4; SoundStream, Zeghidour et al. 2021, equations 1 to 3).
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import relu, smooth_l1_loss

from paluku.codec.discriminators import Verdict

Scalar: TypeAlias = Float[Tensor, ""]
# hinge: SoundStream, EnCodec. least_squares: LSGAN (Mao et al. 2017), as in HiFi-GAN and DAC.
Adversary: TypeAlias = Literal["hinge", "least_squares"]


def discriminator_loss(real: Sequence[Verdict], fake: Sequence[Verdict], adversary: Adversary) -> Scalar:
    """How badly real is told from fake: 2 (hinge) or 1 (least squares) where all logits are 0.

    hinge: max(0, 1 - D(real)) + max(0, 1 + D(fake)); least squares: (1 - D(real))^2 + D(fake)^2.
    """
    assert len(real) == len(fake), f"{len(real)} verdicts on real, {len(fake)} on fake"
    if adversary == "hinge":
        return _mean(relu(1 - r) for r in _logits(real)) + _mean(relu(1 + f) for f in _logits(fake))
    return _mean((1 - r).square() for r in _logits(real)) + _mean(f.square() for f in _logits(fake))


def generator_loss(fake: Sequence[Verdict], adversary: Adversary) -> Scalar:
    """How clearly fakes are seen to be fake: 1 where all logits are 0.

    hinge: max(0, 1 - D(fake)); least squares: (1 - D(fake))^2.
    """
    if adversary == "hinge":
        return _mean(relu(1 - f) for f in _logits(fake))
    return _mean((1 - f).square() for f in _logits(fake))


def feature_matching(fake: Sequence[Verdict], real: Sequence[Verdict]) -> Scalar:
    """Mean absolute difference of feature maps over the mean magnitude of the real ones.

    Relative, so that every layer counts alike however large its features grow; averaged over layers, then
    over discriminators (EnCodec, section 3.4, l_feat). No gradient goes through the real ones.
    """
    assert len(real) == len(fake), f"{len(real)} verdicts on real, {len(fake)} on fake"
    return torch.stack([_relative(f.features, r.features) for f, r in zip(fake, real, strict=True)]).mean()


def _relative(fake: Sequence[Tensor], real: Sequence[Tensor], floor: float = 1e-5) -> Scalar:
    """`floor` only keeps a dead layer from dividing by zero."""
    pairs = [(f.float(), r.detach().float()) for f, r in zip(fake, real, strict=True)]
    # A smooth L1 with a bend too small to matter: one fused kernel each way, where l1_loss takes five.
    # By example first: the mean over examples is then the same however they are spread over workers.
    ratios = [
        _each(smooth_l1_loss(f, r, beta=1e-9, reduction="none")) / (_each(r.abs()) + floor) for f, r in pairs
    ]
    return torch.stack([layer.mean() for layer in ratios]).mean()


def _each(values: Tensor) -> Float[Tensor, "B"]:
    """The mean of each example's."""
    return values.flatten(1).mean(dim=1)


def _logits(verdicts: Sequence[Verdict]) -> Iterable[Tensor]:
    return (verdict.logits.float() for verdict in verdicts)


def _mean(errors: Iterable[Tensor]) -> Scalar:
    return torch.stack([error.mean() for error in errors]).mean()
