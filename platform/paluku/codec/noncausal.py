"""Networks that hear the future, streamed exactly: as offline, but later.

A convolution that pads both sides needs inputs after the one it stands at, so its output streams later
than its input does. Added up along a network of such layers, that is its lookahead: derived here from
kernels, strides, dilations and paddings, layer by layer, and the least that whole outputs allow.

Offline, every layer pads its own input with zeros. What a layer would have computed at times before the
stream's first sample (its bias, to begin with) is therefore zero to the next layer, not the response to
silence. So each stream counts its frames, and a layer that remembers has its inputs from before the
beginning put to zero. Zero is fresh for every state here, the count included.

A stream has no end: offline's zeros after the last input are never seen, and the law (streamed = offline,
moved by the lookahead) holds for all that a stream gives.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv_transpose1d

from paluku.nn.state import State, update_
from paluku.shapes import Mask


class Tick(NamedTuple):
    """One step's view of the seats."""

    frames: Int[Tensor, "B"]  # how many frames of each seat came before
    exec_mask: Mask


class Place(NamedTuple):
    """A place between two layers of a streamed network; all but `rate` counted in positions there."""

    rate: int  # positions in a frame
    delay: int = 0  # by how much it streams later than offline
    settled: int = 0  # after how many a stream begun in the middle is like one that was always there

    def later(self, by: int) -> "Place":
        """The place behind a delay line."""
        return Place(self.rate, self.delay + by, self.settled + by)


@runtime_checkable
class Layer(Protocol):
    """One streamed layer."""

    @property
    def end(self) -> Place:
        """Where its outputs are."""
        ...

    def init_state(self, batch: int) -> State:
        """Fresh (zero) state of `batch` seats."""
        ...

    def step(self, state: State, x: Float[Tensor, "B C S"], tick: Tick) -> Float[Tensor, "B C2 T"]:
        """The next inputs of each seat: whole frames."""
        ...


def from_beginning(x: Float[Tensor, "B C S"], tick: Tick, place: Place) -> Float[Tensor, "B C S"]:
    """`x` at `place`, with zeros for what lies before the stream's first sample."""
    if place.delay == 0:
        return x
    position = tick.frames[:, None] * place.rate + torch.arange(x.shape[-1], device=x.device)
    return torch.where((position >= place.delay)[:, None], x, 0.0)


@dataclass(frozen=True)
class Pointwise:
    """A module whose outputs each need the input at the same place only: an activation, a 1x1 convolution."""

    module: nn.Module
    end: Place

    def init_state(self, batch: int) -> State:  # noqa: ARG002 (every layer's signature)
        """None is needed."""
        return ()

    def step(self, state: State, x: Tensor, tick: Tick) -> Tensor:  # noqa: ARG002 (every layer's signature)
        """The module itself."""
        return self.module(x)


@dataclass(frozen=True)
class Delay:
    """Gives its inputs `samples` later; `like` tells the state's device and type."""

    like: nn.Conv1d
    channels: int
    samples: int
    end: Place

    def init_state(self, batch: int) -> Float[Tensor, "B C P"]:
        """The inputs not given yet."""
        return self.like.weight.new_zeros(batch, self.channels, self.samples)

    def step(self, state: Tensor, x: Tensor, tick: Tick) -> Tensor:
        """The next inputs of each seat."""
        seen = torch.cat((state, x), dim=-1)
        update_(state, seen[..., x.shape[-1] :], tick.exec_mask)
        return seen[..., : x.shape[-1]]


class Conv:
    """A zero-padded convolution.

    Output `t` needs inputs up to `t * stride + (kernel - 1) * dilation - padding`. Of `n * stride` inputs
    that stream `begin.delay` late, the last is `n * stride - 1 - begin.delay`: the outputs must be so late
    that it suffices for output `n - 1 - end.delay`, and no later.
    """

    def __init__(self, conv: nn.Conv1d, begin: Place) -> None:
        (kernel,), (self.stride,), (self.dilation,) = conv.kernel_size, conv.stride, conv.dilation
        assert conv.padding_mode == "zeros", f"padding must be zeros, not {conv.padding_mode}"
        assert not isinstance(conv.padding, str), f"padding {conv.padding!r} must be a number"
        assert begin.rate % self.stride == 0, f"stride {self.stride} splits a frame of {begin.rate}"
        (padding,) = conv.padding
        ahead = begin.delay + (kernel - 1) * self.dilation - padding
        delay = -((self.stride - 1 - ahead) // self.stride)  # ceil((ahead + 1 - stride) / stride)
        self.conv, self.begin = conv, begin
        self.past = delay * self.stride - begin.delay + padding
        assert self.past >= 0, f"{conv} skips inputs: more padding than it sees"
        settled = -(-(begin.settled + self.past) // self.stride)
        self.end = Place(begin.rate // self.stride, delay, settled)

    def init_state(self, batch: int) -> Float[Tensor, "B C P"]:
        """The last inputs of each seat."""
        return self.conv.weight.new_zeros(batch, self.conv.in_channels, self.past)

    def step(self, state: Tensor, x: Tensor, tick: Tick) -> Tensor:
        """The next inputs of each seat; fewer than `stride` of the kept ones may be needed no more."""
        seen = torch.cat((state, from_beginning(x, tick, self.begin)), dim=-1)
        update_(state, seen[..., x.shape[-1] :], tick.exec_mask)
        conv = self.conv
        return conv1d(seen, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


class Transposed:
    """A transposed convolution whose padding cuts its first outputs off.

    Output `t` needs inputs up to `(t + padding) / stride`, so that whole strides are `padding` later.
    """

    def __init__(self, conv: nn.ConvTranspose1d, begin: Place) -> None:
        (kernel,), (stride,), padding = conv.kernel_size, conv.stride, conv.padding[0]
        assert isinstance(padding, int), f"padding {conv.padding!r} must be a number"
        assert conv.dilation == (1,), f"dilation {conv.dilation} of a transposed convolution is not streamed"
        assert kernel >= stride, f"kernel {kernel} leaves gaps at stride {stride}"
        self.conv, self.begin, self.stride, self.overlap = conv, begin, stride, kernel - stride
        self.end = Place(
            begin.rate * stride, begin.delay * stride + padding, begin.settled * stride + self.overlap
        )

    def init_state(self, batch: int) -> Float[Tensor, "B C2 P"]:
        """The sums so far of each seat's next outputs, without bias."""
        return self.conv.weight.new_zeros(batch, self.conv.out_channels, self.overlap)

    def step(self, state: Tensor, x: Tensor, tick: Tick) -> Tensor:
        """The next inputs of each seat."""
        conv, finished = self.conv, x.shape[-1] * self.stride
        sums = conv_transpose1d(
            from_beginning(x, tick, self.begin), conv.weight, stride=self.stride, groups=conv.groups
        )
        sums[..., : self.overlap] += state
        update_(state, sums[..., finished:], tick.exec_mask)
        done = sums[..., :finished]
        return done if conv.bias is None else done + conv.bias[:, None]


class Chain:
    """Layers one after the other."""

    def __init__(self, layers: tuple[Layer, ...], begin: Place) -> None:
        self.layers = layers
        self.end = layers[-1].end if layers else begin

    def init_state(self, batch: int) -> State:
        """One for each layer."""
        return tuple(layer.init_state(batch) for layer in self.layers)

    def step(self, state: State, x: Tensor, tick: Tick) -> Tensor:
        """Each in turn."""
        for layer, layer_state in zip(self.layers, state, strict=True):
            x = layer.step(layer_state, x, tick)
        return x


@dataclass(frozen=True)
class Residual:
    """`x + branch(x)`: the branch streams late, so `x` has to wait for it."""

    branch: Layer
    skip: Delay

    @property
    def end(self) -> Place:
        """The branch's."""
        return self.branch.end

    def init_state(self, batch: int) -> State:
        """The branch's, and the inputs that wait."""
        return self.branch.init_state(batch), self.skip.init_state(batch)

    def step(self, state: State, x: Tensor, tick: Tick) -> Tensor:
        """The next inputs of each seat."""
        branch, skip = state
        waited = self.skip.step(skip, x, tick)
        return waited + self.branch.step(branch, x, tick)


@dataclass(frozen=True)
class Kinds:
    """What the modules of a network mean, other than convolutions.

    Any other module with children is taken to run them one after the other.
    """

    pointwise: tuple[type[nn.Module], ...]
    residual: tuple[type[nn.Module], ...]

    def layer(self, module: nn.Module, begin: Place) -> Layer:
        """The streamed layer that shares `module`'s weights."""
        if isinstance(module, nn.Conv1d) and module.kernel_size != (1,):
            return Conv(module, begin)
        if isinstance(module, (nn.Conv1d, *self.pointwise)):
            return Pointwise(module, begin)
        if isinstance(module, nn.ConvTranspose1d):
            return Transposed(module, begin)
        children = list(module.children())
        assert children, f"{type(module).__name__} is of no kind that can be streamed"
        chain = self._chain(children, begin)
        return _residual(module, chain, begin) if isinstance(module, self.residual) else chain

    def _chain(self, modules: list[nn.Module], begin: Place) -> Chain:
        layers, place = [], begin
        for module in modules:
            layers.append(self.layer(module, place))
            place = layers[-1].end
        return Chain(tuple(layers), begin)


def _residual(module: nn.Module, branch: Layer, begin: Place) -> Residual:
    assert branch.end.rate == begin.rate, f"{type(module).__name__} adds waves of different rates"
    first = _convs(module)[0]
    waits = branch.end.delay - begin.delay
    return Residual(branch, Delay(first, first.in_channels, waits, begin.later(waits)))


def _convs(module: nn.Module) -> list[nn.Conv1d]:
    return [each for each in module.modules() if isinstance(each, nn.Conv1d)]


class StreamState(NamedTuple):
    """One seat a row; zero is fresh."""

    frames: Tensor  # [B] int64: how many frames came before
    layers: State


class Streamed:
    """A whole network, streamed in frames: `rate` input positions each. Its output is late by whole frames.

    It shares the module's weights, which must not be re-parametrised any more (weight norm folded).
    """

    def __init__(self, module: nn.Module, rate: int, kinds: Kinds) -> None:
        begin = Place(rate)
        network = kinds.layer(module, begin)
        self._rate, self._weight_of = rate, _convs(module)[-1]
        late = -network.end.delay % network.end.rate
        wait = Delay(self._weight_of, self._weight_of.out_channels, late, network.end.later(late))
        self._network = Chain((network, wait) if late else (network,), begin)

    @property
    def lookahead_frames(self) -> int:
        """By how many frames its outputs are later than offline's; the first ones are zeros instead."""
        end = self._network.end
        return end.delay // end.rate

    @property
    def reach_frames(self) -> int:
        """After how many frames nothing that came before them is in the state any more, but the count."""
        end = self._network.end
        return -(-end.settled // end.rate)

    def init_state(self, batch: int) -> StreamState:
        """Fresh (zero) state of `batch` seats."""
        frames = torch.zeros(batch, dtype=torch.int64, device=self._weight_of.weight.device)
        return StreamState(frames, self._network.init_state(batch))

    def step(self, state: StreamState, x: Float[Tensor, "B C S"], exec_mask: Mask) -> Float[Tensor, "B C2 T"]:
        """The next whole frames of each seat."""
        length = x.shape[-1]
        assert length % self._rate == 0, f"{length} inputs are no whole frames of {self._rate}"
        tick = Tick(state.frames, exec_mask)
        y = self._network.step(state.layers, x, tick)
        y = from_beginning(y, tick, self._network.end)
        update_(state.frames, state.frames + length // self._rate, exec_mask)
        return y
