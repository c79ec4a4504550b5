"""The shipped codec: SoundStream's convolutions with separable units, two hops to a frame, residual VQ.

    wave → strided convolutions and residual units → two features side by side → residual VQ
    codes → entries → transposed convolutions and residual units → wave

After Zeghidour et al. 2021, "SoundStream", with the layers of its successor Lyra V2 (google/lyra), whose
published weights `codec.lyra_layout` reads: depthwise and grouped convolutions, 1.3 million weights in all.
Encoder and decoder learn from there, the quantizer is ours.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from paluku.codec.causal import ShallowCodec
from paluku.codec.quantizer import Quantized, ResidualQuantizer
from paluku.codec.semantic import SemanticCodebook
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.nn.blocks import CausalBlocks, CausalDepthwise
from paluku.nn.state import State
from paluku.shapes import Codes, Latent, Mask, MonoWave

LEAK = 0.3
UNIT_TAPS, DILATIONS = 3, (1, 3, 9)
WAVE_TAPS = 4  # the convolutions at the wave are four strides long, the others two
FEATURE_TAPS = 3


class Unit(nn.Module):
    """`x + grouped(leaky(mix(depthwise(leaky(x)))))`, `[B, S, C]` to the same."""

    def __init__(self, channels: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.depthwise = CausalDepthwise(channels, UNIT_TAPS, dilation)
        self.mix = CausalBlocks(channels, channels)
        self.grouped = CausalBlocks(channels, channels, groups=groups)

    def forward(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B S C"]:
        """The whole sequence at once."""
        return x + self._mixed(self.depthwise(leaky_relu(x, LEAK)))

    def init_state(self, batch: int) -> State:
        """The depthwise convolution's."""
        return self.depthwise.init_state(batch)

    def step(self, state: State, x: Float[Tensor, "B S C"], exec_mask: Mask) -> Float[Tensor, "B S C"]:
        """The next inputs of each seat."""
        return x + self._mixed(self.depthwise.step(state, leaky_relu(x, LEAK), exec_mask))

    def _mixed(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B S C"]:
        return self.grouped(leaky_relu(self.mix(x), LEAK))


class Net(nn.Module):
    """Layers one after the other, `[B, S, C]` to `[B, R, C']`, with a leaky rectifier before convolutions."""

    def __init__(self, layers: list[CausalBlocks | Unit]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B R C2"]:
        """The whole sequence at once."""
        for index, layer in enumerate(self._layers()):
            x = layer(x if index == 0 or isinstance(layer, Unit) else leaky_relu(x, LEAK))
        return x

    def init_state(self, batch: int) -> State:
        """Each layer's."""
        return tuple(layer.init_state(batch) for layer in self._layers())

    def step(self, state: State, x: Float[Tensor, "B S C"], exec_mask: Mask) -> Float[Tensor, "B R C2"]:
        """The next inputs of each seat."""
        for index, (layer, past) in enumerate(zip(self._layers(), state, strict=True)):
            x = x if index == 0 or isinstance(layer, Unit) else leaky_relu(x, LEAK)
            x = layer.step(past, x, exec_mask)
        return x

    def reach_samples(self, samples_per_input: int) -> int:
        """How many samples back an output sees."""
        total, length = 0.0, float(samples_per_input)
        for layer in self._layers():
            if isinstance(layer, Unit):
                total += layer.depthwise.past * length
            else:
                length *= layer.down
                total += (layer.taps - 1) * length
                length /= layer.up
        return math.ceil(total)

    def _layers(self) -> list[CausalBlocks | Unit]:
        return [layer for layer in self.layers if isinstance(layer, CausalBlocks | Unit)]


def encoder_net(config: SoundStreamConfig) -> Net:
    """`[B, S, 1]` to `[B, S / hop, F]`."""
    widths, strides = config.widths, config.strides
    layers: list[CausalBlocks | Unit] = [CausalBlocks(1, widths[0], taps=WAVE_TAPS, down=strides[0])]
    for narrow, wide, stride in zip(widths, widths[1:], strides[1:], strict=False):
        groups = narrow // config.channels
        layers += [*_units(config, narrow), CausalBlocks(narrow, wide, taps=2, down=stride, groups=groups)]
    last = CausalBlocks(widths[-1], config.feature_dim, taps=FEATURE_TAPS, groups=config.feature_groups)
    return Net([*layers, last])


def decoder_net(config: SoundStreamConfig) -> Net:
    """`[B, T, F]` to `[B, T * hop, 1]`."""
    widths, strides = config.widths[::-1], config.strides[::-1]
    first = CausalBlocks(config.feature_dim, widths[0], taps=FEATURE_TAPS, groups=config.feature_groups)
    layers: list[CausalBlocks | Unit] = [first]
    for wide, narrow, stride in zip(widths, widths[1:], strides, strict=False):
        groups = narrow // config.channels
        layers += [CausalBlocks(wide, narrow, taps=2, up=stride, groups=groups), *_units(config, narrow)]
    return Net([*layers, CausalBlocks(config.channels, 1, taps=WAVE_TAPS, up=strides[-1])])


def _units(config: SoundStreamConfig, width: int) -> list[Unit]:
    return [Unit(width, dilation, width // config.channels) for dilation in DILATIONS]


class EncodeState(NamedTuple):
    """One seat a row; zero is fresh."""

    network: State
    semantic: State


class SoundStreamCodec(ShallowCodec):
    """Implements `codec.port.Codec`, with no delay and no lookahead."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = encoder_net(config), decoder_net(config)
        self.quantizer = ResidualQuantizer(
            config.num_codebooks, config.codebook_size, config.latent_dim, config.quantizer
        )
        self.semantic: SemanticCodebook | None = None
        if config.semantic is not None:
            # No loss of the wave reaches it: it is fitted by itself (`training.requantise`).
            semantic = SemanticCodebook(config.latent_dim, config.codebook_size, config.semantic)
            self.semantic = semantic.requires_grad_(False)

    @property
    def encode_reach_frames(self) -> int:
        """The networks' receptive fields in whole frames."""
        said = 0 if self.semantic is None else self.semantic.reach_frames
        return said - (-self.encoder.reach_samples(1) // self.frame_samples)

    @property
    def decode_reach_frames(self) -> int:
        """The network's receptive field in whole frames."""
        return -(-self.decoder.reach_samples(self.config.hop_samples) // self.frame_samples)

    def forward(
        self, wave: MonoWave, num_codebooks: Int[Tensor, "B"] | None
    ) -> tuple[MonoWave, Quantized | None]:
        """For training: the decoded wave and what the quantizer learns from.

        Example `b` is coded with `num_codebooks[b]` codebooks; `None` leaves the latents unquantised.
        """
        latents = self.latents(wave)
        if num_codebooks is None:
            return self._wave(latents), None
        quantized = self.quantizer(latents, num_codebooks, self._said(latents.detach()))
        return self._wave(quantized.latents), quantized

    def latents(self, wave: MonoWave) -> Latent:
        """`[B, 1, S]` to `[B, D, T]`, what the quantizer codes; `S` must be whole frames."""
        self._check(wave)
        return self._side_by_side(self.encoder(wave.transpose(1, 2)))

    @torch.no_grad()
    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]`; `S` must be whole frames."""
        latents = self.latents(wave)
        return self.quantizer.encode(latents, self._said(latents))

    @torch.no_grad()
    def decode(self, codes: Codes) -> MonoWave:
        """`[B, k, T]` to `[B, 1, S]`, with the first `k <= K` codebooks."""
        return self._wave(self.quantizer.decode(codes))

    def init_encode_state(self, batch: int) -> EncodeState:
        """Fresh (zero) state of `batch` seats."""
        said = () if self.semantic is None else self.semantic.init_state(batch)
        return EncodeState(self.encoder.init_state(batch), said)

    def init_decode_state(self, batch: int) -> State:
        """Fresh (zero) state of `batch` seats."""
        return self.decoder.init_state(batch)

    @torch.no_grad()
    def encode_step(self, state: EncodeState, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next whole frames of each seat."""
        self._check(wave)
        features = self.encoder.step(state.network, wave.transpose(1, 2), exec_mask)
        latents = self._side_by_side(features)
        said = None if self.semantic is None else self.semantic.step(state.semantic, latents, exec_mask)
        return self.quantizer.encode(latents, said)

    @torch.no_grad()
    def decode_step(self, state: State, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The next whole frames of each seat."""
        features = self._one_by_one(self.quantizer.decode(codes))
        return self.decoder.step(state, features, exec_mask).transpose(1, 2)

    def _said(self, latents: Latent) -> Int[Tensor, "B T"] | None:
        return None if self.semantic is None else self.semantic.codes(latents)

    def _wave(self, latents: Latent) -> MonoWave:
        return self.decoder(self._one_by_one(latents)).transpose(1, 2)

    def _side_by_side(self, features: Float[Tensor, "B hops F"]) -> Latent:
        """Hops to frames."""
        return features.reshape(len(features), -1, self.config.latent_dim).transpose(1, 2)

    def _one_by_one(self, latents: Latent) -> Float[Tensor, "B hops F"]:
        """Frames to hops."""
        return latents.transpose(1, 2).reshape(len(latents), -1, self.config.feature_dim)

    def _check(self, wave: MonoWave) -> None:
        frame = self.config.frame_samples
        assert wave.shape[-1] % frame == 0, f"{wave.shape[-1]} samples are no whole frames of {frame}"
