"""Lyra V2's published networks, in our names: what the SoundStream codec can begin from.

google/lyra (Apache-2.0) ships its encoder and decoder as TensorFlow Lite graphs that run a hop at a time.
Their convolutions stand in the graph in the order in which they run, which is the order of ours. Some are
stored in eight bits with a scale per channel: their weights are exact here, but the graph rounds what lies
between them too, so that our features are 24 dB above the difference from the graph's.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paluku.codec.published import Weights, find
from paluku.codec.soundstream import Net, SoundStreamCodec, Unit
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.errors import CheckpointError
from paluku.nn.blocks import CausalBlocks

_URL = "https://raw.githubusercontent.com/google/lyra/v1.3.2/lyra/model_coeffs/"
ENCODER = Weights(
    name="lyra_encoder",
    file="soundstream_encoder.tflite",
    url=f"{_URL}soundstream_encoder.tflite",
    licence="Apache-2.0",
    sha256="237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
)
DECODER = Weights(
    name="lyra_decoder",
    file="lyragan.tflite",
    url=f"{_URL}lyragan.tflite",
    licence="Apache-2.0",
    sha256="50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06",
)
PUBLISHED = {weights.name: weights for weights in (ENCODER, DECODER)}
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")


class Convolution(NamedTuple):
    """One of the graph's: `weight` as TensorFlow Lite lays it out."""

    kind: str
    weight: Tensor
    bias: Tensor


def lyra_weights(config: SoundStreamConfig, folder: Path | None = None) -> dict[str, Tensor]:
    """A state dict of `SoundStreamCodec(config)` with Lyra's networks; the codebooks are fresh.

    The two files are looked for in `folder`, else fetched by name (`codec.published`).

    Raises:
        CheckpointError: when a file is missing, damaged or another one, package `tflite` is not installed, or
            `config` has other sizes than Lyra.
        StorageError: when a fetched file cannot be written.
    """
    codec = SoundStreamCodec(config)
    for net, weights in ((codec.encoder, ENCODER), (codec.decoder, DECODER)):
        path = find(weights.name if folder is None else str(folder / weights.file), PUBLISHED)
        try:
            fill_(net, list(read_convolutions(path)))
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} does not fit the configured sizes ({error}); leave model.channels, strides and "
                "feature_dim as they are: they are Lyra's"
            ) from error
    return codec.state_dict()


@torch.no_grad()
def fill_(net: Net, convolutions: list[Convolution]) -> None:
    """Give a network the graph's weights, in place.

    Raises:
        ValueError: when there are more or fewer, or of other kinds.
        RuntimeError: when a size differs.
    """
    left = iter(convolutions)
    for layer in net.layers:
        if isinstance(layer, Unit):
            depthwise = _next(left, "DEPTHWISE_CONV_2D")
            layer.depthwise.weight.copy_(depthwise.weight[0, :, 0])
            layer.depthwise.bias.copy_(depthwise.bias)
            for part in (layer.mix, layer.grouped):
                _fill_convolution_(part, _next(left, "CONV_2D"))
        elif isinstance(layer, CausalBlocks) and layer.up > 1:
            # The graph has no transposed convolution in groups: one after the other, each with its own bias.
            _fill_transposed_(layer, [_next(left, "TRANSPOSE_CONV") for _ in range(layer.groups)])
        elif isinstance(layer, CausalBlocks):
            _fill_convolution_(layer, _next(left, "CONV_2D"))
    if next(left, None) is not None:
        raise ValueError("it has more layers")


def _fill_convolution_(layer: CausalBlocks, given: Convolution) -> None:
    """`[out, kernel, 1, in / groups]` there, `[groups, kernel * in / groups, out / groups]` here."""
    by_group = given.weight.flatten(1).unflatten(0, (layer.groups, -1))
    layer.weight.copy_(by_group.transpose(1, 2))
    layer.bias.copy_(given.bias)


def _fill_transposed_(layer: CausalBlocks, parts: list[Convolution]) -> None:
    """`[out, kernel, 1, in]` of each group there; here the oldest input, whose outputs come last, first."""
    for group, part in zip(layer.weight, parts, strict=True):
        taps = part.weight[:, :, 0].unflatten(1, (layer.taps, layer.up)).flip(1)
        group.copy_(taps.permute(1, 3, 2, 0).flatten(0, 1).flatten(1))
    layer.bias.copy_(torch.cat([part.bias for part in parts]))


def _next(left: Iterator[Convolution], kind: str) -> Convolution:
    given = next(left, None)
    if given is None or given.kind != kind:
        raise ValueError(f"where we have a {kind} it has {given.kind if given else 'nothing'}")
    return given


def read_convolutions(path: Path) -> Iterator[Convolution]:
    """The graph's convolutions in the order in which they run, float32.

    Raises:
        CheckpointError: when the file is no such graph, or package `tflite` is not installed.
    """
    tflite = _tflite()
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise CheckpointError(f"{path} is no TensorFlow Lite file; fetch it again")
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    kinds = {getattr(tflite.BuiltinOperator, kind): kind for kind in CONVOLUTIONS}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Old files name the operator in the one field, new ones in the other.
        kind = kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        if kind is None:
            continue
        inputs = operator.InputsAsNumpy()
        weight, bias = (1, 3) if kind == "TRANSPOSE_CONV" else (1, 2)
        yield Convolution(kind, *(_constant(model, graph.Tensors(inputs[place])) for place in (weight, bias)))


def _tflite() -> Any:
    """The package, whose generated classes say of everything that it may be missing."""
    try:
        return importlib.import_module("tflite")
    except ModuleNotFoundError as error:
        raise CheckpointError(
            "Lyra's files are read by package tflite, which is not installed; pip install tflite"
        ) from error


def _constant(model: Any, tensor: Any) -> Tensor:
    """A tensor that stands in the file, with its scale multiplied out."""
    tflite = _tflite()
    types = {
        tflite.TensorType.FLOAT32: np.float32,
        tflite.TensorType.INT32: np.int32,
        tflite.TensorType.INT8: np.int8,
    }
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
    values = np.frombuffer(raw, types[tensor.Type()]).reshape(tensor.ShapeAsNumpy()).astype(np.float64)
    quantization = tensor.Quantization()
    if quantization is not None and quantization.ScaleLength():
        shape = [1] * values.ndim
        if quantization.ScaleLength() > 1:
            shape[quantization.QuantizedDimension()] = -1
        scale, zero = quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy()
        values = (values - zero.reshape(shape)) * scale.astype(np.float64).reshape(shape)
    return torch.from_numpy(values.astype(np.float32))
