"""Mimi's parts over `[B, C, S]`, offline and streaming with explicit state; zero is fresh.

Mimi: Défossez et al. 2024, "Moshi: a speech-text foundation model for real-time dialogue", section 3.3.
A causal SEANet on both sides (Tagliasacchi et al. 2020; here with half as many channels inside a residual
unit), convolutions that halve and double the latents' rate, and a semantic quantizer next to an acoustic
residual one. The transformers between them are in `codec.mimi_transformer`.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from paluku.config import Config
from paluku.nn.conv import CausalConv1d, CausalConvTranspose1d
from paluku.nn.state import State, update_
from paluku.shapes import Codes, Latent, Mask

SAMPLE_RATE_HZ = 24_000
FIRST_KERNEL, UNIT_KERNEL, LAST_KERNEL = 7, 3, 3


class MimiConfig(Config):
    """Sizes; the defaults are the published ones."""

    ratios: tuple[int, ...] = (8, 6, 5, 4)  # the decoder's; the encoder's are the same in reverse
    filters: int = Field(default=64, ge=2, multiple_of=2)  # at the wave's own rate; doubled by each ratio
    dim: int = Field(default=512, ge=2)
    layers: int = Field(default=8, ge=1)
    heads: int = Field(default=8, ge=1)
    feedforward: int = Field(default=2048, ge=1)
    window: int = Field(default=250, ge=1)  # in latents, of which a frame has two
    latents_per_frame: int = Field(default=2, ge=1)
    codebook_dim: int = Field(default=256, ge=1)
    codebook_size: int = Field(default=2048, ge=2)
    num_codebooks: int = Field(default=32, ge=1)  # Moshi uses 8; a file's further ones are left unread

    @property
    def sample_rate_hz(self) -> int:
        """24000."""
        return SAMPLE_RATE_HZ

    @property
    def latent_samples(self) -> int:
        """Samples in one latent."""
        return math.prod(self.ratios)

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.latent_samples * self.latents_per_frame


class Chain(nn.Module):
    """Layers one after the other, at the places where the published files have them."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Float[Tensor, "B C S"]) -> Float[Tensor, "B C2 S2"]:
        """The whole sequence at once."""
        for layer in self.layers:
            x = layer(x)
        return x

    def init_state(self, batch: int) -> State:
        """The state of each layer that has one."""
        return tuple(layer.init_state(batch) for layer in self.layers if isinstance(layer, STREAMED))

    def step(self, state: State, x: Float[Tensor, "B C S"], exec_mask: Mask) -> Float[Tensor, "B C2 S2"]:
        """The next inputs of each seat."""
        states = iter(state)
        for layer in self.layers:
            x = layer.step(next(states), x, exec_mask) if isinstance(layer, STREAMED) else layer(x)
        return x

    def past(self, spacing: int) -> tuple[int, int]:
        """How far before its own place an output sees, and the outputs' spacing, in units of `spacing`.

        `spacing` is that of the inputs, in samples.
        """
        total = 0
        for layer in self.layers:
            if isinstance(layer, CausalConv1d):
                total, spacing = total + layer.past * spacing, spacing * layer.stride[0]
            elif isinstance(layer, CausalConvTranspose1d):
                total += -(-layer.overlap // layer.stride[0]) * spacing
                spacing //= layer.stride[0]
            elif isinstance(layer, Chain):
                inside, spacing = layer.past(spacing)
                total += inside
        return total, spacing


STREAMED = (CausalConv1d, CausalConvTranspose1d, Chain)


class ShortConv1d(CausalConv1d):
    """A convolution that streams as one matrix product, for few outputs of many channels.

    Torch's own first puts its weights in an order of its own, which takes longer than so few outputs do.
    """

    def step(
        self, state: Float[Tensor, "B C P"], x: Float[Tensor, "B C S"], exec_mask: Mask
    ) -> Float[Tensor, "B C2 T"]:
        """The next inputs of each seat."""
        seen = torch.cat((state, x), dim=-1)
        update_(state, seen[..., seen.shape[-1] - self.past :], exec_mask)
        windows = seen.unfold(2, self.kernel_size[0], self.stride[0]).transpose(1, 2).flatten(2)
        return F.linear(windows, self.weight.flatten(1), self.bias).transpose(1, 2)


class ShortConvTranspose1d(CausalConvTranspose1d):
    """A transposed convolution two strides long, as one matrix product, for few inputs of many channels.

    Torch's own takes twelve times as long on a CPU (two inputs of 1,024 channels, one seat).
    """

    def forward(self, input: Float[Tensor, "B C T"]) -> Float[Tensor, "B C2 S"]:  # noqa: A002
        """The whole sequence at once."""
        own, later = self._halves(input)
        return self._joined(own, F.pad(later, (0, 0, 0, 0, 1, 0))[:, :-1])

    def step(
        self, state: Float[Tensor, "B C2 P"], x: Float[Tensor, "B C T"], exec_mask: Mask
    ) -> Float[Tensor, "B C2 S"]:
        """The next inputs of each seat."""
        own, later = self._halves(x)
        before = torch.cat((state[:, None], later[:, :-1]), dim=1)
        update_(state, later[:, -1], exec_mask)
        return self._joined(own, before)

    def _halves(self, x: Float[Tensor, "B C T"]) -> tuple[Tensor, Tensor]:
        """What each input adds to its own outputs and to the next one's, `[B, T, C2, stride]`."""
        sums = (x.transpose(1, 2) @ self.weight.flatten(1)).unflatten(2, (self.out_channels, -1))
        own, later = sums.tensor_split(2, dim=-1)
        return own, later

    def _joined(
        self, own: Float[Tensor, "B T C2 stride"], before: Float[Tensor, "B T C2 stride"]
    ) -> Float[Tensor, "B C2 S"]:
        assert self.bias is not None
        return (own + before + self.bias[:, None]).transpose(1, 2).flatten(2)


class Residual(Chain):
    """`x + conv1(ELU(conv3(ELU(x))))` with half the channels between the two."""

    def __init__(self, channels: int) -> None:
        inside = channels // 2
        wide, mix = CausalConv1d(channels, inside, UNIT_KERNEL), nn.Conv1d(inside, channels, 1)
        super().__init__((nn.ELU(), wide, nn.ELU(), mix))

    def forward(self, x: Float[Tensor, "B C S"]) -> Float[Tensor, "B C S"]:
        """The whole sequence at once."""
        return x + super().forward(x)

    def step(self, state: State, x: Float[Tensor, "B C S"], exec_mask: Mask) -> Float[Tensor, "B C S"]:
        """The next inputs of each seat."""
        return x + super().step(state, x, exec_mask)


def encoder(config: MimiConfig) -> Chain:
    """Wave `[B, 1, S]` to latents `[B, D, S / samples per latent]`."""
    channels, *ratios = config.filters, *reversed(config.ratios)
    layers: list[nn.Module] = [CausalConv1d(1, channels, FIRST_KERNEL)]
    for index, ratio in enumerate(ratios, start=1):
        kind = ShortConv1d if index == len(ratios) else CausalConv1d
        shorten = kind(channels, 2 * channels, 2 * ratio, stride=ratio)
        layers += [Residual(channels), nn.ELU(), shorten]
        channels *= 2
    return Chain([*layers, nn.ELU(), ShortConv1d(channels, config.dim, LAST_KERNEL)])


def decoder(config: MimiConfig) -> Chain:
    """Latents `[B, D, T]` to wave `[B, 1, T * samples per latent]`."""
    channels = config.filters * 2 ** len(config.ratios)
    layers: list[nn.Module] = [ShortConv1d(config.dim, channels, FIRST_KERNEL)]
    for index, ratio in enumerate(config.ratios):
        kind = CausalConvTranspose1d if index else ShortConvTranspose1d
        lengthen = kind(channels, channels // 2, 2 * ratio, stride=ratio)
        channels //= 2
        layers += [nn.ELU(), lengthen, Residual(channels)]
    return Chain([*layers, nn.ELU(), CausalConv1d(channels, 1, LAST_KERNEL)])


class DownsampleState(NamedTuple):
    """What came before, and whether anything did."""

    begun: Bool[Tensor, "B"]
    past: Float[Tensor, "B D P"]


class Downsample(nn.Conv1d):
    """`[B, D, T * stride]` to `[B, D, T]`; before its first input a stream is taken to have been the same."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__(dim, dim, 2 * stride, stride=stride, bias=False)
        self.past = stride

    def forward(self, input: Float[Tensor, "B D S"]) -> Latent:  # noqa: A002 (nn.Conv1d's name)
        """The whole sequence at once."""
        return super().forward(F.pad(input, (self.past, 0), mode="replicate"))

    def init_state(self, batch: int) -> DownsampleState:
        """The last `P` inputs of each seat."""
        past = self.weight.new_zeros(batch, self.in_channels, self.past)
        return DownsampleState(torch.zeros(batch, dtype=torch.bool, device=past.device), past)

    def step(self, state: DownsampleState, x: Float[Tensor, "B D S"], exec_mask: Mask) -> Latent:
        """The next inputs of each seat."""
        past = torch.where(state.begun[:, None, None], state.past, x[..., :1])
        seen = torch.cat((past, x), dim=-1)
        update_(state.past, seen[..., seen.shape[-1] - self.past :], exec_mask)
        state.begun.logical_or_(exec_mask)
        return super().forward(seen)


class Upsample(nn.Module):
    """`[B, D, T]` to `[B, D, T * stride]`, each channel by itself.

    A transposed convolution of two strides' length: an output is what its own input and the one before it
    give. The state is that last input.
    """

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, 1, 2 * stride) / 2)

    def forward(self, x: Latent) -> Float[Tensor, "B D S"]:
        """The whole sequence at once."""
        return self._spread(F.pad(x, (1, 0)))

    def init_state(self, batch: int) -> Float[Tensor, "B D 1"]:
        """The last input of each seat."""
        return self.weight.new_zeros(batch, len(self.weight), 1)

    def step(self, state: Float[Tensor, "B D 1"], x: Latent, exec_mask: Mask) -> Float[Tensor, "B D S"]:
        """The next inputs of each seat."""
        seen = torch.cat((state, x), dim=-1)
        update_(state, x[..., -1:], exec_mask)
        return self._spread(seen)

    def _spread(self, seen: Float[Tensor, "B D T1"]) -> Float[Tensor, "B D S"]:
        own, before = self.weight.chunk(2, dim=-1)
        return (seen[..., 1:, None] * own + seen[..., :-1, None] * before).flatten(2)


class Codebooks(nn.Module):
    """`K` residual codebooks between projections into and out of their own dimension `E`."""

    entries: Float[Tensor, "K V E"]
    half_squares: Float[Tensor, "K V"]

    def __init__(self, config: MimiConfig, num_codebooks: int) -> None:
        super().__init__()
        shape = num_codebooks, config.codebook_size, config.codebook_dim
        self.input_proj = nn.Conv1d(config.dim, config.codebook_dim, 1, bias=False)
        self.output_proj = nn.Conv1d(config.codebook_dim, config.dim, 1, bias=False)
        self.register_buffer("entries", torch.zeros(shape))
        self.register_buffer("half_squares", torch.zeros(shape[:2]))  # of the entries' lengths

    def encode(self, latents: Latent) -> Codes:
        """`[B, D, T]` to `[B, K, T]`: the nearest entry, the lowest index among equals."""
        residual = self.input_proj(latents).transpose(1, 2)
        codes = []
        for entries, half_squares in zip(self.entries, self.half_squares, strict=True):
            codes.append((residual @ entries.T - half_squares).argmax(dim=-1))
            residual = residual - F.embedding(codes[-1], entries)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Codes) -> Latent:
        """`[B, k, T]` to `[B, D, T]`, with the first `k <= K` codebooks."""
        rows = zip(codes.unbind(1), self.entries, strict=False)
        return self.output_proj(torch.stack([F.embedding(row, e) for row, e in rows]).sum(0).transpose(1, 2))


class SplitQuantizer(nn.Module):
    """One semantic codebook, and beside it residual acoustic ones: both code the latents themselves."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.num_codebooks = config.num_codebooks
        self.semantic = Codebooks(config, 1)
        self.acoustic = Codebooks(config, config.num_codebooks - 1)

    def encode(self, latents: Latent) -> Codes:
        """`[B, D, T]` to `[B, K, T]`, the semantic codes first."""
        codes = self.semantic.encode(latents)
        if self.num_codebooks == 1:
            return codes
        return torch.cat((codes, self.acoustic.encode(latents)), dim=1)

    def decode(self, codes: Codes) -> Latent:
        """`[B, k, T]` to `[B, D, T]`, with the first `k <= K` codebooks."""
        rows = codes.shape[1]
        assert 0 < rows <= self.num_codebooks, f"{rows} rows of codes, {self.num_codebooks} codebooks"
        latents = self.semantic.decode(codes[:, :1])
        return latents if rows == 1 else latents + self.acoustic.decode(codes[:, 1:])
