"""Linear layers without bias that are shared by all positions, or that each position has for itself.

Moshi's depth transformer gives every codebook its own weights (Défossez et al. 2024, section 3.4.2,
"depthwise parametrization").
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SharedLinear(nn.Linear):
    """`nn.Linear` without bias; takes and ignores the position, as a stand-in for `StepLinear`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, input: Tensor, index: int | None = None) -> Tensor:  # noqa: A002, ARG002 (nn.Linear's name)
        """`[..., D]` to `[..., D']`."""
        return super().forward(input)


class StepLinear(nn.Module):
    """A matrix for each of `steps` positions, `[steps, D', D]`."""

    def __init__(self, in_features: int, out_features: int, steps: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)  # what nn.Linear begins with
        self.weight = nn.Parameter(torch.empty(steps, out_features, in_features).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "N ... D"], index: int | None = None) -> Float[Tensor, "N ... D2"]:
        """`[N, T, D]` to `[N, T, D']`, the positions from 0 on; or all of `x` at position `index`."""
        if index is not None:
            return F.linear(x, self.weight[index])
        length = x.shape[1]
        assert length <= len(self.weight), f"{length} positions, weights for {len(self.weight)}"
        return torch.bmm(x.transpose(0, 1), self.weight[:length].mT).transpose(0, 1)


def linear(in_features: int, out_features: int, steps: int | None) -> SharedLinear | StepLinear:
    """Shared when `steps` is None."""
    if steps is None:
        return SharedLinear(in_features, out_features)
    return StepLinear(in_features, out_features, steps)
