"""Mimi, Kyutai's streaming codec: 24 kHz, 12.5 frames a second, 1 semantic and up to 31 acoustic codebooks.

Défossez et al. 2024, "Moshi: a speech-text foundation model for real-time dialogue", section 3.3; the
weights are Kyutai's, CC-BY-4.0. Built of our own blocks, so that a stream's state is explicit: seats
join, leave, move and fall silent by themselves. It equals the offline output of `transformers`' MimiModel
and of package `moshi`, either of whose files it loads; needs neither package.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from paluku.codec import mimi_layout
from paluku.codec.causal import CausalCodec
from paluku.codec.mimi_nets import (
    Codebooks,
    Downsample,
    DownsampleState,
    MimiConfig,
    SplitQuantizer,
    Upsample,
    decoder,
    encoder,
)
from paluku.codec.mimi_transformer import LatentTransformer, TransformerState
from paluku.codec.published import Weights, find
from paluku.nn.state import State
from paluku.shapes import Codes, Latent, Mask, MonoWave

KNOWN = {
    # The same weights as kyutai/mimi's model.safetensors; this file's name says which model it is.
    "mimi": Weights(
        name="mimi",
        file="tokenizer-e351c8d8-checkpoint125.safetensors",
        url="https://huggingface.co/kyutai/moshiko-pytorch-bf16/resolve/main/"
        "tokenizer-e351c8d8-checkpoint125.safetensors",
        licence="CC-BY-4.0, Kyutai",
        sha256="09b782f0629851a271227fb9d36db65c041790365f11bbe5d3d59369cf863f50",
        size_bytes=384_644_900,
    )
}


class EncodeState(NamedTuple):
    """One seat a row; zero is fresh."""

    encoder: State
    transformer: TransformerState
    downsample: DownsampleState


class DecodeState(NamedTuple):
    """One seat a row; zero is fresh."""

    upsample: Tensor  # [B, D, 1]: the last frame's latent
    transformer: TransformerState
    decoder: State


class MimiCodec(CausalCodec):
    """Implements `codec.port.Codec`; causal, and without delay."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(config)
        self.encoder_transformer = LatentTransformer(config)
        self.downsample = Downsample(config.dim, config.latents_per_frame)
        self.quantizer = SplitQuantizer(config)
        self.upsample = Upsample(config.dim, config.latents_per_frame)
        self.decoder_transformer = LatentTransformer(config)
        self.decoder = decoder(config)

    @classmethod
    def from_published(cls, name_or_path: str = "mimi", config: MimiConfig | None = None) -> "MimiCodec":
        """Published weights: `mimi`, or the path of a file in the layout of `transformers` or `moshi`.

        `config` chooses how many of the 32 codebooks are used.

        Raises:
            CheckpointError: when there is no such file, it is damaged, or it is not Mimi's.
            StorageError: when a file that is fetched cannot be written.
        """
        path = find(name_or_path, KNOWN)
        codec = cls(config or MimiConfig())
        codec.load_state_dict(mimi_layout.read(path, codec.config, codec.state_dict()))
        return codec.eval().requires_grad_(False)

    @classmethod
    @torch.no_grad()
    def seeded(cls, seed: int, config: MimiConfig | None = None) -> "MimiCodec":
        """Random weights, for tests and timing; codebooks as spread as what they code, so that codes vary."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            codec = cls(config or MimiConfig())
            latents = codec.latents(torch.randn(4, 1, 16 * codec.frame_samples))
            for books in (codec.quantizer.semantic, codec.quantizer.acoustic):
                _spread_(books, latents)
        return codec.eval().requires_grad_(False)

    @property
    def encode_reach_frames(self) -> int:
        """The convolutions' past, and as many windows as the transformer has layers."""
        past, latent = self.encoder.past(1)
        past += (self.encoder_transformer.reach + self.downsample.past) * latent
        return -(-past // self.frame_samples)

    @property
    def decode_reach_frames(self) -> int:
        """One frame for the upsampling, the windows, and the convolutions' past."""
        past, _ = self.decoder.past(self.config.latent_samples)
        past += self.frame_samples + self.decoder_transformer.reach * self.config.latent_samples
        return -(-past // self.frame_samples)

    def latents(self, wave: MonoWave) -> Latent:
        """`[B, 1, S]` to `[B, D, T]`, what the quantizer codes; `S` must be whole frames."""
        self._check(wave)
        return self.downsample(self.encoder_transformer(self.encoder(wave)))

    @torch.no_grad()
    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]`; `S` must be whole frames."""
        return self.quantizer.encode(self.latents(wave))

    @torch.no_grad()
    def decode(self, codes: Codes) -> MonoWave:
        """`[B, k, T]` to `[B, 1, S]`, with the first `k <= K` codebooks."""
        latents = self.upsample(self.quantizer.decode(codes))
        return self.decoder(self.decoder_transformer(latents))

    def init_encode_state(self, batch: int) -> EncodeState:
        """Fresh (zero) state of `batch` seats."""
        return EncodeState(
            self.encoder.init_state(batch),
            self.encoder_transformer.init_state(batch),
            self.downsample.init_state(batch),
        )

    def init_decode_state(self, batch: int) -> DecodeState:
        """Fresh (zero) state of `batch` seats."""
        return DecodeState(
            self.upsample.init_state(batch),
            self.decoder_transformer.init_state(batch),
            self.decoder.init_state(batch),
        )

    @torch.no_grad()
    def encode_step(self, state: EncodeState, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next whole frames of each seat."""
        self._check(wave)
        x = self.encoder.step(state.encoder, wave, exec_mask)
        x = self.encoder_transformer.step(state.transformer, x, exec_mask)
        return self.quantizer.encode(self.downsample.step(state.downsample, x, exec_mask))

    @torch.no_grad()
    def decode_step(self, state: DecodeState, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The next whole frames of each seat."""
        x = self.upsample.step(state.upsample, self.quantizer.decode(codes), exec_mask)
        x = self.decoder_transformer.step(state.transformer, x, exec_mask)
        return self.decoder.step(state.decoder, x, exec_mask)

    def _check(self, wave: MonoWave) -> None:
        length, frame = wave.shape[-1], self.config.frame_samples
        assert length % frame == 0, f"{length} samples are no whole frames of {frame}"


def _spread_(books: Codebooks, latents: Latent) -> None:
    """Give each codebook random entries with the mean and deviation of what it is asked to code."""
    residual = books.input_proj(latents).transpose(1, 2).flatten(0, 1)
    for entries, half_squares in zip(books.entries, books.half_squares, strict=True):
        entries.normal_().mul_(residual.std(dim=0)).add_(residual.mean(dim=0))
        half_squares.copy_(entries.square().sum(dim=-1) / 2)
        residual = residual - entries[(residual @ entries.T - half_squares).argmax(dim=-1)]
