"""Paluku's own codec: MDCT frames, a learned linear path with small causal networks beside it, residual VQ.

    wave → MDCT → companding by band → linear + network → residual VQ
    codes → entries → linear x gain + network → expansion by band → inverse MDCT

The linear path carries the phase, which a network alone does not learn in minutes of training; the
networks bring back the energy and the detail that a linear map of few dimensions leaves out.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from paluku.codec import mdct
from paluku.codec.causal import ShallowCodec
from paluku.codec.companding import Bands
from paluku.codec.quantizer import Quantized, QuantizerConfig, ResidualQuantizer
from paluku.config import Config
from paluku.nn.conv import CausalNet
from paluku.nn.state import State, leaves
from paluku.shapes import Codes, Latent, Mask, MonoWave
from paluku.units import frame_samples

# A gain of at most exp(1.5), 13 dB either way: enough to restore what quantisation takes, too little
# to make noise out of nothing. Unbounded gains died or diverged in trials.
MAX_LOG_GAIN = 1.5


class NetConfig(Config):
    """One of the two networks: width, and residual units."""

    hidden: int = Field(ge=1)
    units: int = Field(ge=0)


class NativeCodecConfig(Config):
    """`hop_samples * hops_per_frame` is one frame, 1/25 s."""

    architecture: Literal["native"] = "native"
    sample_rate_hz: int = 16_000
    hop_samples: int = Field(default=160, ge=2)
    hops_per_frame: int = Field(default=4, ge=1)
    bands: int = Field(default=20, ge=1)
    latent_dim: int = Field(default=192, ge=1)
    encoder: NetConfig = NetConfig(hidden=256, units=1)
    decoder: NetConfig = NetConfig(hidden=384, units=2)
    num_codebooks: int = Field(default=16, ge=1)
    codebook_size: int = Field(default=256, ge=2)
    quantizer: QuantizerConfig = QuantizerConfig()

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.hop_samples * self.hops_per_frame

    @model_validator(mode="after")
    def _frames_are_whole(self) -> "NativeCodecConfig":
        wanted = frame_samples(self.sample_rate_hz)
        if self.frame_samples != wanted:
            raise ValueError(
                f"hop_samples * hops_per_frame is {self.frame_samples}; at {self.sample_rate_hz} Hz "
                f"it must be {wanted}"
            )
        return self


class EncodeState(NamedTuple):
    """One seat a row; zero is fresh."""

    analysis: Tensor  # [B, 1, hop]: the last samples
    network: State


class DecodeState(NamedTuple):
    """One seat a row; zero is fresh."""

    network: State
    synthesis: Tensor  # [B, 1, hop]: the half-finished samples


class NativeCodec(ShallowCodec):
    """Implements `codec.port.Codec`. `decode(encode(wave))` is the wave delayed by `delay_samples`."""

    def __init__(self, config: NativeCodecConfig) -> None:
        super().__init__()
        self.config = config
        frame, dim = config.frame_samples, config.latent_dim
        self.analysis = mdct.analysis(config.hop_samples)
        self.bands = Bands(config.hop_samples, config.sample_rate_hz, config.bands)
        self.to_latent = nn.Conv1d(frame, dim, 1, bias=False)
        self.encoder = CausalNet(frame, config.encoder.hidden, dim, config.encoder.units)
        self.quantizer = ResidualQuantizer(config.num_codebooks, config.codebook_size, dim, config.quantizer)
        self.from_latent = nn.Conv1d(dim, frame, 1, bias=False)
        # A gain on each coefficient of the linear path, and what is added to it.
        self.decoder = CausalNet(dim, config.decoder.hidden, 2 * frame, config.decoder.units)
        self.synthesis = mdct.synthesis(config.hop_samples)
        self._begin_linear()

    def _begin_linear(self) -> None:
        """Start as a projection onto random orthonormal directions and back, the networks beside it quiet."""
        nn.init.orthogonal_(self.to_latent.weight)
        with torch.no_grad():
            self.from_latent.weight.copy_(self.to_latent.weight.transpose(0, 1))
            for network in (self.encoder, self.decoder):
                network.last.weight.mul_(0.1)
                nn.init.zeros_(network.last.bias)  # pyright: ignore[reportArgumentType] (it has one)

    @torch.no_grad()
    def frame_products(self, wave: MonoWave) -> Float[Tensor, "N N"]:
        """The companded frames' outer products, summed: what `project_on_` wants of much speech."""
        x = self._compressed(self.analysis(wave)).transpose(1, 2).flatten(0, 1)
        return x.T @ x

    @torch.no_grad()
    def project_on_(self, products: Float[Tensor, "N N"]) -> None:
        """Let the linear path keep the directions in which speech differs most (Karhunen-Loève), in place."""
        directions = torch.linalg.eigh(products.double()).eigenvectors.flip(1)[:, : self.config.latent_dim]
        self.to_latent.weight.copy_(directions.T[..., None])
        self.from_latent.weight.copy_(directions[..., None])

    @property
    def encode_reach_frames(self) -> int:
        """One frame for the MDCT's last hop, and the network's receptive field."""
        return 1 + _past(self.encoder)

    @property
    def decode_reach_frames(self) -> int:
        """One frame for the hop that the next one finishes, and the network's receptive field."""
        return 1 + _past(self.decoder)

    @property
    def delay_samples(self) -> int:
        """By how much the decoded wave lags: half an MDCT window (10 ms), offline and streaming alike."""
        return self.config.hop_samples

    def forward(
        self, wave: MonoWave, num_codebooks: Int[Tensor, "B"] | None
    ) -> tuple[MonoWave, Quantized | None]:
        """For training: the decoded wave and what the quantizer learns from.

        Example `b` is coded with `num_codebooks[b]` codebooks; `None` leaves the latents unquantised.
        """
        latents = self.latents(wave)
        if num_codebooks is None:
            return self._wave(latents), None
        quantized = self.quantizer(latents, num_codebooks)
        return self._wave(quantized.latents), quantized

    def latents(self, wave: MonoWave) -> Latent:
        """`[B, 1, S]` to `[B, D, T]`, what the quantizer codes; `S` must be whole frames."""
        self._check(wave)
        x = self._compressed(self.analysis(wave))
        return self.to_latent(x) + self.encoder(x)

    @torch.no_grad()
    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]`; `S` must be whole frames."""
        return self.quantizer.encode(self.latents(wave))

    @torch.no_grad()
    def decode(self, codes: Codes) -> MonoWave:
        """`[B, k, T]` to `[B, 1, S]`, with the first `k <= K` codebooks."""
        return self._wave(self.quantizer.decode(codes))

    def init_encode_state(self, batch: int) -> EncodeState:
        """Fresh (zero) state of `batch` seats."""
        return EncodeState(self.analysis.init_state(batch), self.encoder.init_state(batch))

    def init_decode_state(self, batch: int) -> DecodeState:
        """Fresh (zero) state of `batch` seats."""
        return DecodeState(self.decoder.init_state(batch), self.synthesis.init_state(batch))

    @torch.no_grad()
    def encode_step(self, state: EncodeState, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next whole frames of each seat."""
        self._check(wave)
        x = self._compressed(self.analysis.step(state.analysis, wave, exec_mask))
        latents = self.to_latent(x) + self.encoder.step(state.network, x, exec_mask)
        return self.quantizer.encode(latents)

    @torch.no_grad()
    def decode_step(self, state: DecodeState, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The next whole frames of each seat."""
        latents = self.quantizer.decode(codes)
        spectrum = self._expanded(latents, self.decoder.step(state.network, latents, exec_mask))
        return self.synthesis.step(state.synthesis, spectrum, exec_mask)

    def _wave(self, latents: Latent) -> MonoWave:
        return self.synthesis(self._expanded(latents, self.decoder(latents)))

    def _compressed(self, spectrum: Float[Tensor, "B hop hops"]) -> Float[Tensor, "B N T"]:
        """Hops to frames, companded."""
        frames = spectrum.unflatten(2, (-1, self.config.hops_per_frame)).transpose(2, 3)
        return self.bands.compressed(frames).flatten(1, 2)

    def _expanded(self, latents: Latent, shaped: Float[Tensor, "B N2 T"]) -> Float[Tensor, "B hop hops"]:
        """The linear path as the network shapes it, expanded: frames to hops."""
        gain, added = shaped.chunk(2, dim=1)
        x = self.from_latent(latents) * (MAX_LOG_GAIN * torch.tanh(gain)).exp() + added
        frames = x.unflatten(1, (-1, self.config.hops_per_frame))
        return self.bands.expanded(frames).transpose(2, 3).flatten(2, 3)

    def _check(self, wave: MonoWave) -> None:
        frame = self.config.frame_samples
        assert wave.shape[-1] % frame == 0, f"{wave.shape[-1]} samples are no whole frames of {frame}"


def _past(network: CausalNet) -> int:
    """How many inputs back a network sees: its convolutions keep so many, one after the other."""
    return sum(leaf.shape[-1] for leaf in leaves(network.init_state(1)))
