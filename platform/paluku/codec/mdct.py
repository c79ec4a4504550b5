"""The modified discrete cosine transform: a wave as `N` coefficients a hop of `N` samples, and back.

Princen and Bradley 1986 (time-domain aliasing cancellation), with the sine window on both sides. As
a strided convolution and its transpose with fixed weights it needs no streaming code of its own.
A hop's last samples are finished by the next hop: analysis and synthesis together delay by `N`.
"""

import math
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paluku.nn.conv import CausalConv1d, CausalConvTranspose1d

Layer = TypeVar("Layer", CausalConv1d, CausalConvTranspose1d)


def basis(hop: int) -> Float[Tensor, "N 1 M"]:
    """The `N` windowed cosines over `M = 2 N` samples; orthonormal over all hops of a wave."""
    sample = torch.arange(2 * hop, dtype=torch.float64)
    bin_ = torch.arange(hop, dtype=torch.float64)
    window = torch.sin(math.pi / (2 * hop) * (sample + 0.5))
    cosine = torch.cos(math.pi / hop * (sample + 0.5 + hop / 2) * (bin_[:, None] + 0.5))
    return (math.sqrt(2 / hop) * window * cosine).float()[:, None, :]


def analysis(hop: int) -> CausalConv1d:
    """`[B, 1, S]` to coefficients `[B, N, S / N]`; not trained."""
    layer = CausalConv1d(1, hop, 2 * hop, stride=hop, bias=False)
    return _fixed(layer, hop)


def synthesis(hop: int) -> CausalConvTranspose1d:
    """Coefficients `[B, N, T]` to `[B, 1, T N]`, the wave delayed by `N` samples; not trained."""
    layer = CausalConvTranspose1d(hop, 1, 2 * hop, stride=hop, bias=False)
    return _fixed(layer, hop)


def _fixed(layer: Layer, hop: int) -> Layer:
    layer.weight = nn.Parameter(basis(hop), requires_grad=False)
    return layer
