"""Convolutions as products of matrices: equal torch's own, and stream as they run offline."""

import pytest
import torch
from torch.nn.functional import conv1d, conv_transpose1d, pad

from paluku.nn.blocks import CausalBlocks, CausalDepthwise

EVERYONE = torch.ones(2, dtype=torch.bool)


def sequence(length: int, channels: int) -> torch.Tensor:
    return torch.randn(2, length, channels, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("taps", "stride", "groups"), [(1, 1, 1), (3, 1, 2), (2, 5, 1), (4, 2, 3)])
def test_blocks_down_are_a_strided_causal_convolution(taps: int, stride: int, groups: int) -> None:
    layer, x = CausalBlocks(6, 12, taps=taps, down=stride, groups=groups), sequence(20, 6)
    torch.nn.init.normal_(layer.bias)
    # [G, kernel * in, out] to conv1d's [G * out, in, kernel].
    weight = layer.weight.unflatten(1, (taps * stride, -1)).permute(0, 3, 2, 1).flatten(0, 1)
    padded = pad(x.transpose(1, 2), ((taps - 1) * stride, 0))
    expected = conv1d(padded, weight, layer.bias, stride=stride, groups=groups).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("taps", "stride", "groups"), [(2, 2, 1), (2, 5, 2), (4, 3, 3)])
def test_blocks_up_are_a_transposed_convolution(taps: int, stride: int, groups: int) -> None:
    layer, x = CausalBlocks(6, 12, taps=taps, up=stride, groups=groups), sequence(7, 6)
    torch.nn.init.normal_(layer.bias)
    # [G, taps * in, stride * out], the oldest input first, to conv_transpose1d's [G * in, out, kernel].
    parts = layer.weight.unflatten(1, (taps, -1)).unflatten(3, (stride, -1)).flip(1)
    weight = parts.permute(0, 2, 4, 1, 3).flatten(3).flatten(0, 1)
    whole = conv_transpose1d(x.transpose(1, 2), weight, layer.bias, stride=stride, groups=groups)
    torch.testing.assert_close(layer(x), whole.transpose(1, 2)[:, : 7 * stride], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dilation", [1, 3])
def test_depthwise_is_a_convolution_with_a_group_a_channel(dilation: int) -> None:
    layer, x = CausalDepthwise(6, 3, dilation), sequence(20, 6)
    torch.nn.init.normal_(layer.bias)
    padded = pad(x.transpose(1, 2), (2 * dilation, 0))
    expected = conv1d(padded, layer.weight.T[:, None], layer.bias, dilation=dilation, groups=6)
    torch.testing.assert_close(layer(x), expected.transpose(1, 2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chunks", [[20], [4, 16], [2] * 10, [6, 2, 12]])
@pytest.mark.parametrize(
    "layer",
    [
        CausalBlocks(6, 12, taps=4, down=2, groups=3),
        CausalBlocks(6, 12, taps=2, up=3),
        CausalDepthwise(6, 3, 9),
    ],
    ids=["down", "up", "depthwise"],
)
@torch.no_grad()
def test_streaming_equals_offline(layer: CausalBlocks | CausalDepthwise, chunks: list[int]) -> None:
    x, state = sequence(20, 6), layer.init_state(2)
    parts = [layer.step(state, part, EVERYONE) for part in x.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_seat_outside_the_mask_keeps_its_state() -> None:
    layer = CausalDepthwise(6, 3, 2)
    state = layer.init_state(2)
    layer.step(state, sequence(8, 6), torch.tensor([True, False]))
    assert state[0].abs().sum() > 0
    assert state[1].abs().sum() == 0


def test_inputs_that_are_no_whole_strides_are_refused() -> None:
    with pytest.raises(AssertionError, match="7 inputs are no multiple of stride 2"):
        CausalBlocks(6, 12, taps=2, down=2)(sequence(7, 6))
