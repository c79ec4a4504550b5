"""Causal convolutions: reference formulas, causality, and streaming = offline."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paluku.nn.conv import CausalConv1d, CausalConvTranspose1d, CausalNet, ResidualUnit
from paluku.nn.state import State

# Each takes 4 channels and whole multiples of 3 inputs.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "pointwise": lambda: CausalConv1d(4, 5, 1),
    "plain": lambda: CausalConv1d(4, 5, 3),
    "dilated": lambda: CausalConv1d(4, 5, 3, dilation=4),
    "strided": lambda: CausalConv1d(4, 5, 7, stride=3),
    "strided-tight": lambda: CausalConv1d(4, 5, 3, stride=3),
    "transposed": lambda: CausalConvTranspose1d(4, 5, 4, stride=2),
    "transposed-long": lambda: CausalConvTranspose1d(4, 5, 11, stride=2),
    "transposed-tight": lambda: CausalConvTranspose1d(4, 5, 2, stride=2, bias=False),
    "residual": lambda: ResidualUnit(4, dilation=2),
    "net": lambda: CausalNet(4, 6, 5, units=2),
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[request.param]().eval().requires_grad_(False)


def stream(layer: nn.Module, state: State, x: Tensor, chunks: list[int]) -> Tensor:
    everyone = torch.ones(len(x), dtype=torch.bool)
    return torch.cat([layer.step(state, part, everyone) for part in x.split(chunks, dim=-1)], dim=-1)


@pytest.mark.parametrize("chunks", [[24], [3] * 8, [6, 3, 12, 3], [3, 21]])
def test_streaming_from_a_zero_state_equals_offline(layer: nn.Module, chunks: list[int]) -> None:
    x = torch.randn(2, 4, 24)
    streamed = stream(layer, layer.init_state(2), x, chunks)
    torch.testing.assert_close(streamed, layer(x), atol=1e-5, rtol=1e-5)


def test_an_output_does_not_hear_later_inputs(layer: nn.Module) -> None:
    x = torch.randn(1, 4, 24)
    changed = x.clone()
    changed[..., 12:] += 1
    before, after = layer(x), layer(changed)
    half = before.shape[-1] // 2
    torch.testing.assert_close(after[..., :half], before[..., :half], atol=0, rtol=0)
    assert not torch.equal(after[..., half:], before[..., half:])


def test_a_seat_outside_the_mask_stays_where_it_was(layer: nn.Module) -> None:
    first, ignored, second = torch.randn(3, 2, 4, 12).unbind()
    state = layer.init_state(2)
    layer.step(state, first, torch.tensor([True, True]))
    layer.step(state, ignored, torch.tensor([True, False]))
    last = layer.step(state, second, torch.tensor([True, True]))
    heard = (torch.cat([first[:1], ignored[:1], second[:1]], -1), torch.cat([first[1:], second[1:]], -1))
    for seat, wave in enumerate(heard):
        torch.testing.assert_close(last[seat], layer(wave)[0, :, -last.shape[-1] :], atol=1e-5, rtol=1e-5)


def test_convolution_is_the_sum_over_the_past() -> None:
    """`y[t] = b + sum_j w[j] x[stride t + stride - 1 - dilation (kernel - 1 - j)]`, zero before the start."""
    layer = CausalConv1d(1, 1, 3, stride=2, dilation=2).requires_grad_(False)
    x = torch.randn(10)
    weight, bias = layer.weight[0, 0].tolist(), float(layer.bias)
    reference = []
    for t in range(5):
        places = [2 * t + 1 - 2 * (2 - j) for j in range(3)]
        reference.append(bias + sum(weight[j] * float(x[p]) for j, p in enumerate(places) if p >= 0))
    torch.testing.assert_close(layer(x.view(1, 1, -1)).flatten(), torch.tensor(reference))


def test_transposed_convolution_adds_each_input_s_kernel() -> None:
    layer = CausalConvTranspose1d(1, 1, 5, stride=2).requires_grad_(False)
    x = torch.randn(4)
    reference = torch.full((8 + 5,), float(layer.bias))
    for t in range(4):
        reference[2 * t : 2 * t + 5] += x[t] * layer.weight[0, 0]
    torch.testing.assert_close(layer(x.view(1, 1, -1)).flatten(), reference[:8])


def test_inputs_that_are_no_multiple_of_the_stride_are_refused() -> None:
    with pytest.raises(AssertionError, match="no multiple of stride 3"):
        CausalConv1d(1, 1, 3, stride=3)(torch.zeros(1, 1, 4))


def test_a_kernel_that_skips_inputs_is_refused() -> None:
    with pytest.raises(AssertionError, match="skips inputs"):
        CausalConv1d(1, 1, 2, stride=3)
    with pytest.raises(AssertionError, match="leaves gaps"):
        CausalConvTranspose1d(1, 1, 2, stride=3)
