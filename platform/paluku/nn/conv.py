"""Causal convolutions over `[B, C, S]`, offline and streaming.

Padding is zeros on the left only, so output `t` sees inputs up to `t`, and a stream begun from a zero
state equals the offline result. A convolution's state holds its last inputs, a transposed
convolution's the partial sums (without bias) that later inputs still add to: zero is fresh for both.
`step` is for inference: call it under `torch.no_grad()`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv_transpose1d, elu, linear, pad

from paluku.nn.state import State, update_
from paluku.shapes import Mask


class CausalConv1d(nn.Conv1d):
    """`[B, C, S]` to `[B, C', S / stride]`; `S` must be a multiple of the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, dilation=dilation, bias=bias)
        self.past = (kernel - 1) * dilation + 1 - stride
        assert self.past >= 0, f"kernel {kernel} with dilation {dilation} skips inputs at stride {stride}"

    def forward(self, input: Float[Tensor, "B C S"]) -> Float[Tensor, "B C2 T"]:  # noqa: A002 (nn.Conv1d's name)
        """The whole sequence at once."""
        self._check(input)
        return super().forward(pad(input, (self.past, 0)))

    def init_state(self, batch: int) -> Float[Tensor, "B C P"]:
        """The last `P` inputs of each seat."""
        return self.weight.new_zeros(batch, self.in_channels, self.past)

    def step(
        self, state: Float[Tensor, "B C P"], x: Float[Tensor, "B C S"], exec_mask: Mask
    ) -> Float[Tensor, "B C2 T"]:
        """The next inputs of each seat."""
        self._check(x)
        seen = torch.cat((state, x), dim=-1) if self.past else x
        if self.past:
            update_(state, seen[..., seen.shape[-1] - self.past :], exec_mask)
        if x.shape[-1] == self.stride[0]:
            return self._one_output(seen)
        return super().forward(seen)

    def _one_output(self, seen: Float[Tensor, "B C S"]) -> Float[Tensor, "B C2 1"]:
        """A convolution with one output is a product of matrices: several times faster on a CPU."""
        taps = seen[..., :: self.dilation[0]].flatten(1)
        return linear(taps, self.weight.flatten(1), self.bias)[..., None]

    def _check(self, x: Tensor) -> None:
        length, stride = x.shape[-1], self.stride[0]
        assert length % stride == 0, f"{length} inputs are no multiple of stride {stride}"


class CausalConvTranspose1d(nn.ConvTranspose1d):
    """`[B, C, T]` to `[B, C', T * stride]`; each input's later outputs overlap the next ones'."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, bias=bias)
        self.overlap = kernel - stride
        assert self.overlap >= 0, f"kernel {kernel} leaves gaps at stride {stride}"

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (causality fixes the output's size)
        self,
        input: Float[Tensor, "B C T"],  # noqa: A002 (nn.ConvTranspose1d's name)
    ) -> Float[Tensor, "B C2 S"]:
        """The whole sequence at once; what would still overlap later inputs is cut off."""
        return super().forward(input)[..., : input.shape[-1] * self.stride[0]]

    def init_state(self, batch: int) -> Float[Tensor, "B C2 P"]:
        """The sums so far of each seat's next `P` outputs."""
        return self.weight.new_zeros(batch, self.out_channels, self.overlap)

    def step(
        self, state: Float[Tensor, "B C2 P"], x: Float[Tensor, "B C T"], exec_mask: Mask
    ) -> Float[Tensor, "B C2 S"]:
        """The next inputs of each seat."""
        sums = conv_transpose1d(x, self.weight, stride=self.stride)
        sums[..., : self.overlap] += state
        finished = x.shape[-1] * self.stride[0]
        update_(state, sums[..., finished:], exec_mask)
        finished_sums = sums[..., :finished]
        return finished_sums if self.bias is None else finished_sums + self.bias[:, None]


class ResidualUnit(nn.Module):
    """`x + conv1(ELU(conv_k(ELU(x))))`, `[B, C, S]` to the same.

    SoundStream (Zeghidour et al. 2021), figure 3.
    """

    def __init__(self, channels: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.wide = CausalConv1d(channels, channels, kernel, dilation=dilation)
        self.mix = CausalConv1d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C S"]) -> Float[Tensor, "B C S"]:
        """The whole sequence at once."""
        return x + self.mix(elu(self.wide(elu(x))))

    def init_state(self, batch: int) -> Float[Tensor, "B C P"]:
        """The wide convolution's last inputs."""
        return self.wide.init_state(batch)

    def step(
        self, state: Float[Tensor, "B C P"], x: Float[Tensor, "B C S"], exec_mask: Mask
    ) -> Float[Tensor, "B C S"]:
        """The next inputs of each seat."""
        return x + self.mix(elu(self.wide.step(state, elu(x), exec_mask)))


class CausalNet(nn.Module):
    """Convolution, residual units with dilations 1, 2, 4 ..., ELU, pointwise convolution.

    `[B, C, S]` to `[B, C', S]`.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, units: int, kernel: int = 3) -> None:
        super().__init__()
        self.first = CausalConv1d(in_channels, hidden, kernel)
        self.units = nn.ModuleList(ResidualUnit(hidden, kernel, 2**index) for index in range(units))
        self.last = CausalConv1d(hidden, out_channels, 1)

    def forward(self, x: Float[Tensor, "B C S"]) -> Float[Tensor, "B C2 S"]:
        """The whole sequence at once."""
        x = self.first(x)
        for unit in self.units:
            x = unit(x)
        return self.last(elu(x))

    def init_state(self, batch: int) -> State:
        """The first convolution's state, then each unit's."""
        return (self.first.init_state(batch), *(unit.init_state(batch) for unit in self._units()))

    def step(self, state: State, x: Float[Tensor, "B C S"], exec_mask: Mask) -> Float[Tensor, "B C2 S"]:
        """The next inputs of each seat."""
        first, *others = state
        x = self.first.step(first, x, exec_mask)
        for unit, unit_state in zip(self._units(), others, strict=True):
            x = unit.step(unit_state, x, exec_mask)
        return self.last(elu(x))

    def _units(self) -> list[ResidualUnit]:
        return [unit for unit in self.units if isinstance(unit, ResidualUnit)]
