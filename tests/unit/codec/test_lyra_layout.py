"""Lyra's graphs in our names: on planted convolutions, and where a file is not one."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, leaky_relu, pad

from paluku.codec.lyra_layout import Convolution, fill_, lyra_weights, read_convolutions
from paluku.codec.soundstream import LEAK, Net, Unit
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.errors import CheckpointError
from paluku.nn.blocks import CausalBlocks


def planted(kind: str, *shape: int) -> Convolution:
    """Random weights as TensorFlow Lite lays them out."""
    return Convolution(kind, torch.randn(shape), torch.randn(shape[3 if kind[0] == "D" else 0]))


def causal(x: Tensor, given: Convolution, stride: int, groups: int = 1) -> Tensor:
    weight = given.weight[:, :, 0].transpose(1, 2)
    past = weight.shape[-1] - stride
    return conv1d(pad(x, (past, 0)), weight, given.bias, stride=stride, groups=groups)


def test_convolutions_compute_what_the_graph_computes() -> None:
    torch.manual_seed(0)
    net = Net([CausalBlocks(1, 4, taps=4, down=2), CausalBlocks(4, 6, taps=2, down=5, groups=2)])
    first, second = planted("CONV_2D", 4, 8, 1, 1), planted("CONV_2D", 6, 10, 1, 2)
    fill_(net, [first, second])
    wave = torch.randn(1, 1, 40)
    expected = causal(leaky_relu(causal(wave, first, 2), LEAK), second, 5, groups=2)
    torch.testing.assert_close(net(wave.transpose(1, 2)).transpose(1, 2), expected, atol=1e-5, rtol=1e-4)


def test_a_unit_computes_what_the_graph_computes() -> None:
    torch.manual_seed(0)
    net = Net([Unit(4, 3, 2)])
    across = planted("DEPTHWISE_CONV_2D", 1, 3, 1, 4)
    mix, grouped = planted("CONV_2D", 4, 1, 1, 4), planted("CONV_2D", 4, 1, 1, 2)
    fill_(net, [across, mix, grouped])
    x = torch.randn(1, 4, 20)
    own = across.weight[0].permute(2, 1, 0)
    deep = conv1d(pad(leaky_relu(x, LEAK), (6, 0)), own, across.bias, dilation=3, groups=4)
    expected = x + causal(leaky_relu(causal(deep, mix, 1), LEAK), grouped, 1, groups=2)
    torch.testing.assert_close(net(x.transpose(1, 2)).transpose(1, 2), expected, atol=1e-5, rtol=1e-4)


def test_transposed_convolutions_of_the_groups_are_put_side_by_side() -> None:
    torch.manual_seed(0)
    net = Net([CausalBlocks(6, 4, taps=2, up=5, groups=2)])
    parts = [planted("TRANSPOSE_CONV", 2, 10, 1, 3) for _ in range(2)]
    fill_(net, parts)
    x = torch.randn(1, 6, 7)
    channels = [
        conv_transpose1d(half, part.weight[:, :, 0].permute(2, 0, 1), part.bias, stride=5)[..., :35]
        for half, part in zip(x.chunk(2, dim=1), parts, strict=True)
    ]
    expected = torch.cat(channels, dim=1).transpose(1, 2)
    torch.testing.assert_close(net(x.transpose(1, 2)), expected, atol=1e-5, rtol=1e-4)


def test_layers_of_another_kind_or_number_are_refused() -> None:
    net = Net([CausalBlocks(1, 4, taps=4, down=2)])
    given = planted("CONV_2D", 4, 8, 1, 1)
    with pytest.raises(ValueError, match="where we have a CONV_2D it has TRANSPOSE_CONV"):
        fill_(net, [given._replace(kind="TRANSPOSE_CONV")])
    with pytest.raises(ValueError, match="where we have a CONV_2D it has nothing"):
        fill_(net, [])
    with pytest.raises(ValueError, match="it has more layers"):
        fill_(net, [given, given])


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"soundstream_encoder\.tflite is neither a file nor"):
        lyra_weights(SoundStreamConfig(), tmp_path)


def test_a_file_that_is_not_lyra_s_is_refused(tmp_path: Path) -> None:
    (tmp_path / "soundstream_encoder.tflite").write_bytes(b"not a graph at all")
    with pytest.raises(CheckpointError, match="it is damaged, cut off or another file"):
        lyra_weights(SoundStreamConfig(), tmp_path)


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "graph.tflite").write_bytes(b"not a graph at all")
    with pytest.raises(CheckpointError, match=r"graph\.tflite is no TensorFlow Lite file"):
        list(read_convolutions(tmp_path / "graph.tflite"))


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(CheckpointError, match="pip install tflite"):
        list(read_convolutions(tmp_path / "graph.tflite"))
