"""Causal convolutions as products of matrices, channels last: `[B, S, C]`, offline and streaming.

A strided convolution whose kernel is `taps` strides long is a linear map of the last `taps` blocks of a
stride each; a transposed one is a linear map of the last `taps` inputs to a block. For the few channels and
samples of one frame a product of matrices takes a third of the time of `conv1d` on a CPU, where getting
started is what costs. Padding is zeros on the left: a zero state is fresh, and equals offline.
`step` is for inference: call it under `torch.no_grad()`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from paluku.nn.state import update_
from paluku.shapes import Mask

# Weights uniform up to sqrt(6 / fan in) keep a signal's variance through rectifiers (He et al. 2015).
SPREAD = 6.0


class CausalBlocks(nn.Module):
    """`[B, S, C]` to `[B, S / down * up, C']`, each output from `taps` blocks of `down` inputs.

    With `down = stride` it is a convolution of kernel `taps * stride`, with `up = stride` a transposed one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        taps: int = 1,
        down: int = 1,
        up: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        for channels in (in_channels, out_channels):
            assert channels % groups == 0, f"{groups} groups do not divide {channels} channels"
        self.in_channels, self.out_channels = in_channels, out_channels
        self.taps, self.down, self.up, self.groups = taps, down, up, groups
        fan_in = taps * down * in_channels // groups
        # Row: tap (oldest first), place in the block, channel. Column: place in the block, channel.
        weight = torch.empty(groups, fan_in, up * out_channels // groups)
        self.weight = nn.Parameter(weight.uniform_(-1, 1) * math.sqrt(SPREAD / fan_in))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B R C2"]:
        """The whole sequence at once."""
        return self._mapped(pad(self._blocks(x), (0, 0, self.taps - 1, 0)))

    def init_state(self, batch: int) -> Float[Tensor, "B P N"]:
        """The last blocks of each seat."""
        return self.weight.new_zeros(batch, self.taps - 1, self.down * self.in_channels)

    def step(
        self, state: Float[Tensor, "B P N"], x: Float[Tensor, "B S C"], exec_mask: Mask
    ) -> Float[Tensor, "B R C2"]:
        """The next inputs of each seat."""
        blocks = self._blocks(x)
        if self.taps > 1:
            blocks = torch.cat((state, blocks), dim=1)
            update_(state, blocks[:, 1 - self.taps :], exec_mask)
        return self._mapped(blocks)

    def _blocks(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B T N"]:
        assert x.shape[1] % self.down == 0, f"{x.shape[1]} inputs are no multiple of stride {self.down}"
        return x.reshape(len(x), -1, self.down * self.in_channels)

    def _mapped(self, blocks: Float[Tensor, "B T2 N"]) -> Float[Tensor, "B R C2"]:
        B, T = len(blocks), blocks.shape[1] - self.taps + 1
        if self.taps > 1:
            blocks = torch.cat([blocks[:, tap : tap + T] for tap in range(self.taps)], dim=2)
        if self.groups == 1 and self.up == 1:
            return linear(blocks, self.weight[0].T, self.bias)
        if self.groups == 1:
            return linear(blocks, self.weight[0].T).reshape(B, T * self.up, -1) + self.bias
        # Channels of a group together: [G, B T, taps * down * C / G].
        parts = blocks.reshape(B * T, self.taps * self.down, self.groups, -1).permute(2, 0, 1, 3)
        mapped = torch.bmm(parts.reshape(self.groups, B * T, -1), self.weight)
        places = mapped.reshape(self.groups, B * T, self.up, -1).permute(1, 2, 0, 3)
        return places.reshape(B, T * self.up, -1) + self.bias


class CausalDepthwise(nn.Module):
    """Each channel's own causal convolution, `[B, S, C]` to the same: a product and a sum for each tap."""

    def __init__(self, channels: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(taps, channels).uniform_(-1, 1) * math.sqrt(SPREAD / taps))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.dilation, self.past = dilation, (taps - 1) * dilation

    def forward(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B S C"]:
        """The whole sequence at once."""
        return self._summed(pad(x, (0, 0, self.past, 0)), x.shape[1])

    def init_state(self, batch: int) -> Float[Tensor, "B P C"]:
        """The last inputs of each seat."""
        return self.weight.new_zeros(batch, self.past, self.weight.shape[1])

    def step(
        self, state: Float[Tensor, "B P C"], x: Float[Tensor, "B S C"], exec_mask: Mask
    ) -> Float[Tensor, "B S C"]:
        """The next inputs of each seat."""
        seen = torch.cat((state, x), dim=1)
        update_(state, seen[:, x.shape[1] :], exec_mask)
        return self._summed(seen, x.shape[1])

    def _summed(self, seen: Float[Tensor, "B R C"], length: int) -> Float[Tensor, "B S C"]:
        total = self.bias
        for tap, weight in enumerate(self.weight.unbind(0)):
            first = tap * self.dilation
            total = torch.addcmul(total, seen[:, first : first + length], weight)
        return total
