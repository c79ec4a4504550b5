"""EnCodec's SEANet, streamed: package `encodec`'s own modules with their past as explicit state.

A causal convolution remembers its last inputs, a transposed one its last input, an LSTM its `h` and `c`;
all else is pointwise. The library begins a sequence by reflection: the first outputs of a convolution
depend on inputs up to its padding's length later, which no stream has. `begin` therefore takes a first
piece of several frames, computes it as the library does, and gives the state in which `step` goes on.
(Défossez et al. 2022, "High Fidelity Neural Audio Compression", section 3.1.)
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from paluku.nn.state import State, update_
from paluku.shapes import Mask
from paluku.torchaudio_cpu import prepare_torchaudio

prepare_torchaudio()  # which `encodec` imports

from encodec.modules.conv import SConv1d, SConvTranspose1d  # noqa: E402
from encodec.modules.lstm import SLSTM  # noqa: E402
from encodec.modules.seanet import SEANetResnetBlock  # noqa: E402


def init_state(layer: nn.Module, batch: int) -> State:
    """Zeros of the shapes that `begin` gives for `batch` seats."""
    match layer:
        case nn.Sequential():
            return tuple(init_state(child, batch) for child in layer)
        case SEANetResnetBlock():
            return init_state(layer.block, batch)
        case SConv1d() if _past(layer):
            return _convolution(layer).weight.new_zeros(batch, _convolution(layer).in_channels, _past(layer))
        case SConvTranspose1d():
            return _transposed(layer).weight.new_zeros(batch, _transposed(layer).in_channels, 1)
        case SLSTM():
            shape = (batch, layer.lstm.num_layers, layer.lstm.hidden_size)
            weight = next(layer.parameters())
            return weight.new_zeros(shape), weight.new_zeros(shape)
        case _:
            return ()


def begin(layer: nn.Module, x: Float[Tensor, "B C S"]) -> tuple[Float[Tensor, "B C2 T"], State]:
    """What the library makes of a sequence's beginning, and the state to go on from.

    `x` must be longer than every convolution's padding, so that what is reflected lies in it.
    """
    match layer:
        case nn.Sequential():
            states = []
            for child in layer:
                x, state = begin(child, x)
                states.append(state)
            return x, tuple(states)
        case SEANetResnetBlock():
            y, state = begin(layer.block, x)
            return layer.shortcut(x) + y, state
        case SConv1d() if past := _past(layer):
            assert x.shape[-1] > past, f"{x.shape[-1]} inputs, {past} are reflected"
            return layer(x), x[..., -past:]
        case SConvTranspose1d():
            return layer(x), x[..., -1:]
        case SLSTM():
            outputs, memory = layer.lstm(x.permute(2, 0, 1))
            return _skipped(layer, x, outputs), tuple(part.transpose(0, 1) for part in memory)
        case _:
            return layer(x), ()


def step(
    layer: nn.Module, state: State, x: Float[Tensor, "B C S"], exec_mask: Mask
) -> Float[Tensor, "B C2 T"]:
    """The next inputs of each seat; the state is updated in place where `exec_mask`."""
    match layer:
        case nn.Sequential():
            for child, child_state in zip(layer, state, strict=True):
                x = step(child, child_state, x, exec_mask)
            return x
        case SEANetResnetBlock():
            return layer.shortcut(x) + step(layer.block, state, x, exec_mask)
        case SConv1d() if past := _past(layer):
            seen = torch.cat((state, x), dim=-1)
            update_(state, seen[..., -past:], exec_mask)
            return layer.conv(seen)
        case SConvTranspose1d():
            seen, stride = torch.cat((state, x), dim=-1), _transposed(layer).stride[0]
            update_(state, seen[..., -1:], exec_mask)
            return layer.convtr(seen)[..., stride:-stride]  # the ends lack their neighbours' share
        case SLSTM():
            outputs, memory = _lstm(layer.lstm, x.permute(2, 0, 1), state)
            for old, new in zip(state, memory, strict=True):
                update_(old, new, exec_mask)
            return _skipped(layer, x, outputs)
        case _:
            return layer(x)


def reach(layers: nn.Sequential, input_samples: int) -> int:
    """How many samples back the convolutions look; an input of the first layer is `input_samples` long."""
    samples, length = 0, input_samples
    for layer in layers.modules():
        if isinstance(layer, SConv1d):
            samples += _past(layer) * length
            length *= _convolution(layer).stride[0]
        elif isinstance(layer, SConvTranspose1d):
            samples += length
            length //= _transposed(layer).stride[0]
    return samples


def convolutions(model: nn.Module) -> list[nn.Conv1d | nn.ConvTranspose1d]:
    """Every convolution inside."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]


def _lstm(
    lstm: nn.LSTM, inputs: Float[Tensor, "T B C"], state: State
) -> tuple[Float[Tensor, "T B C"], tuple[Float[Tensor, "B L C"], Float[Tensor, "B L C"]]]:
    """`nn.LSTM` for the few frames of a step, its equations written out; `h` and `c` after it.

    On CPUs torch's own packs its weights anew in each call: for one seat that took three times as long.
    """
    hidden, cells = state
    after = []
    for weights, h, c in zip(lstm.all_weights, hidden.unbind(1), cells.unbind(1), strict=True):
        from_input, from_hidden, input_bias, hidden_bias = weights
        outputs = []
        for gates in linear(inputs, from_input, input_bias + hidden_bias):
            add, keep, new, show = (gates + h @ from_hidden.T).chunk(4, dim=-1)
            c = keep.sigmoid() * c + add.sigmoid() * new.tanh()
            h = show.sigmoid() * c.tanh()
            outputs.append(h)
        inputs = torch.stack(outputs)
        after.append((h, c))
    return inputs, (torch.stack([h for h, _ in after], dim=1), torch.stack([c for _, c in after], dim=1))


def _skipped(layer: SLSTM, x: Float[Tensor, "B C T"], outputs: Float[Tensor, "T B C"]) -> Tensor:
    return outputs.permute(1, 2, 0) + x if layer.skip else outputs.permute(1, 2, 0)


def _convolution(layer: SConv1d) -> nn.Conv1d:
    inner = layer.conv.conv
    assert isinstance(inner, nn.Conv1d)
    return inner


def _transposed(layer: SConvTranspose1d) -> nn.ConvTranspose1d:
    inner = layer.convtr.convtr
    assert isinstance(inner, nn.ConvTranspose1d)
    assert inner.kernel_size[0] == 2 * inner.stride[0], "an input reaches into its next one's outputs only"
    return inner


def _past(layer: SConv1d) -> int:
    """The library's left padding: how many inputs before a stride's own ones an output sees."""
    inner = _convolution(layer)
    return (inner.kernel_size[0] - 1) * inner.dilation[0] - (inner.stride[0] - 1)


def frames_to_begin(layers: nn.Sequential, inputs_per_frame: int) -> int:
    """How many whole frames `begin` needs at least."""
    needed, rate = 1, float(inputs_per_frame)
    for layer in layers.modules():
        if isinstance(layer, SConv1d):
            needed = max(needed, math.ceil((_past(layer) + 1) / rate))
            rate /= _convolution(layer).stride[0]
        elif isinstance(layer, SConvTranspose1d):
            rate *= _transposed(layer).stride[0]
    return needed
