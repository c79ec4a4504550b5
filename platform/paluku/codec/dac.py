"""DAC, the Descript Audio Codec (Kumar et al. 2023, arXiv 2306.06546), from package descript-audio-codec.

Its convolutions pad both sides, so it streams through a lookahead (`codec.noncausal`): of the published
models, 8 frames to encode and 10 to decode at 16 and 24 kHz. It is exact, and late: `streaming_latency_ms`.
"""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from paluku.codec.noncausal import Kinds, Streamed, StreamState
from paluku.codec.published import Weights, find, read_tensors
from paluku.config import Config, resolve
from paluku.errors import CheckpointError, ConfigError
from paluku.shapes import Codes, Mask, MonoWave
from paluku.torchaudio_cpu import prepare_torchaudio

SMALLEST_STRIDE = 2
_RELEASES = "https://github.com/descriptinc/descript-audio-codec/releases/download"


def _weights(name: str, release: str, file: str) -> Weights:
    return Weights(name=name, file=file, url=f"{_RELEASES}/{release}/{file}", licence="MIT")


# Their publisher tells no hashes. A file that is not what it should be does not fit its own metadata.
PUBLISHED: Mapping[str, Weights] = {
    weights.name: weights
    for weights in (
        _weights("dac_16khz", "0.0.5", "weights_16khz.pth"),
        _weights("dac_24khz", "0.0.4", "weights_24khz.pth"),
        _weights("dac_44khz", "0.0.1", "weights.pth"),
    )
}


class DacConfig(Config):
    """Sizes of a DAC, under the names of the library and of its weights' metadata, with its defaults."""

    encoder_dim: int = Field(default=64, ge=1)
    encoder_rates: tuple[int, ...] = Field(default=(2, 4, 8, 8), min_length=1)
    latent_dim: int | None = Field(default=None, ge=1)
    decoder_dim: int = Field(default=1536, ge=1)
    decoder_rates: tuple[int, ...] = Field(default=(8, 8, 4, 2), min_length=1)
    n_codebooks: int = Field(default=9, ge=1)
    codebook_size: int = Field(default=1024, ge=2)
    codebook_dim: int | tuple[int, ...] = 8
    sample_rate: int = Field(default=44_100, ge=1)

    @model_validator(mode="after")
    def _frames_are_whole(self) -> "DacConfig":
        encoder, decoder = self.encoder_rates, self.decoder_rates
        # At stride 1 the library's padding adds a sample.
        if min(*encoder, *decoder) < SMALLEST_STRIDE or math.prod(encoder) != math.prod(decoder):
            raise ValueError(
                f"encoder_rates {encoder} and decoder_rates {decoder} must be {SMALLEST_STRIDE} or more, "
                "with the same product"
            )
        if self.decoder_dim < 2 ** len(decoder):
            raise ValueError(f"decoder_dim {self.decoder_dim} cannot be halved {len(decoder)} times")
        return self


class DacCodec(nn.Module):
    """Implements `codec.port.Codec` around the library's model, with its weight norm folded.

    Offline is the library's own. A stream gives the same, `encode_lookahead_frames` and
    `decode_lookahead_frames` later: for all but a recording's last so many frames, which offline knows
    to be the last. Before the beginning `decode_step` gives silence; the first `encode_lookahead_frames`
    codes of a stream mean nothing and are not to be decoded where the start should be offline's.
    """

    def __init__(self, model: Any) -> None:
        """Takes a `dac.DAC`; a package imported when needed is no type here."""
        super().__init__()
        _fold_weight_norm(model)
        self.model = model.eval().requires_grad_(False)
        kinds = _kinds()
        self._encoder = Streamed(self.model.encoder, self.frame_samples, kinds)
        self._decoder = Streamed(self.model.decoder, 1, kinds)

    @classmethod
    def from_published(cls, name_or_path: str) -> "DacCodec":
        """Published weights by a name in `PUBLISHED`, or a file of such weights.

        Raises:
            CheckpointError: when there is no such file, it is damaged or cut off, or no DAC's.
        """
        path = find(name_or_path, PUBLISHED)
        kwargs, tensors = _content(read_tensors(path), path)
        try:
            config = resolve(DacConfig, kwargs, str(path))
        except ConfigError as error:
            raise CheckpointError(f"{error}; its metadata is no DAC's: give another file") from error
        model = _build(config)
        _load(model, tensors, path)
        return cls(model)

    @classmethod
    def seeded(cls, seed: int, config: DacConfig) -> "DacCodec":
        """Random weights, for tests and for measuring speed.

        The library's own start leaves biases at zero and signals fading from layer to layer; these do not.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _build(config)
            _enliven(model)
            return cls(model)

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waves."""
        return int(self.model.sample_rate)

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return int(self.model.hop_length)

    @property
    def frame_rate_hz(self) -> float:
        """50 at 16 kHz, 75 at 24 kHz, 86.13 at 44.1 kHz."""
        return self.sample_rate_hz / self.frame_samples

    @property
    def num_codebooks(self) -> int:
        """`K`: 12 at 16 kHz, 32 at 24 kHz, 9 at 44.1 kHz."""
        return self.model.n_codebooks

    @property
    def codebook_size(self) -> int:
        """`V`: 1024 in every published model."""
        return self.model.codebook_size

    @property
    def delay_samples(self) -> int:
        """0: what the encoder sees lies as much before a sample as after it, and so with the decoder."""
        return 0

    @property
    def encode_lookahead_frames(self) -> int:
        """How many frames of the future a code needs."""
        return self._encoder.lookahead_frames

    @property
    def decode_lookahead_frames(self) -> int:
        """How many codes of the future a sample needs, in whole frames."""
        return self._decoder.lookahead_frames

    @property
    def encode_reach_frames(self) -> int:
        """What the encoder's convolutions remember, one after the other."""
        return self._encoder.reach_frames

    @property
    def decode_reach_frames(self) -> int:
        """What the decoder's convolutions remember, one after the other."""
        return self._decoder.reach_frames

    @property
    def streaming_latency_ms(self) -> float:
        """By how much a streamed round trip is later than the wave, for both lookaheads.

        On top comes, as for any codec, the chunk that has to be whole before it is coded.
        """
        return 1000 * (self.encode_lookahead_frames + self.decode_lookahead_frames) / self.frame_rate_hz

    @torch.no_grad()
    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]`; `S` must be whole frames."""
        self._check(wave)
        return self.model.encode(wave)[1]

    @torch.no_grad()
    def decode(self, codes: Codes) -> MonoWave:
        """`[B, k, T]` to `[B, 1, S]`, with the first `k <= K` codebooks.

        An odd stride costs the library's decoder a sample at that layer: of the whole wave 8 samples at 16
        and 24 kHz (strides 8, 5, 4, 2). Zeros take their place, so that `S` is whole frames.
        """
        wave = self.model.decode(self._latents(codes))
        return pad(wave, (0, codes.shape[-1] * self.frame_samples - wave.shape[-1]))

    def init_encode_state(self, batch: int) -> StreamState:
        """Fresh (zero) state of `batch` seats."""
        return self._encoder.init_state(batch)

    def init_decode_state(self, batch: int) -> StreamState:
        """Fresh (zero) state of `batch` seats."""
        return self._decoder.init_state(batch)

    @torch.no_grad()
    def encode_step(self, state: StreamState, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next whole frames of each seat."""
        self._check(wave)
        return self.model.quantizer(self._encoder.step(state, wave, exec_mask))[1]

    @torch.no_grad()
    def decode_step(self, state: StreamState, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The next whole frames of each seat."""
        return self._decoder.step(state, self._latents(codes), exec_mask)

    def _latents(self, codes: Codes) -> Float[Tensor, "B D T"]:
        k = codes.shape[1]
        assert 1 <= k <= self.num_codebooks, f"{k} codebooks given, the model has {self.num_codebooks}"
        return self.model.quantizer.from_codes(codes)[0]

    def _check(self, wave: Tensor) -> None:
        frame = self.frame_samples
        assert wave.shape[-1] % frame == 0, f"{wave.shape[-1]} samples are no whole frames of {frame}"


def _library() -> Any:
    """Package dac, imported when first needed: it takes seconds, and what it imports warns of its age."""
    prepare_torchaudio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dac
    return dac


def _build(config: DacConfig) -> Any:
    """The library's model with random weights; it builds with a weight norm that torch deprecates."""
    sizes = {key: list(value) if isinstance(value, tuple) else value for key, value in config}
    library = _library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return library.DAC(**sizes)


@torch.no_grad()
def _enliven(model: nn.Module) -> None:
    """Random biases and activations; weights so large (found by trial) that the tanh at the end is in use."""
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            nn.init.uniform_(parameter, -0.2, 0.2)
        elif name.endswith(".alpha"):
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith(".weight_g"):
            parameter *= 1.3


def _kinds() -> Kinds:
    library = _library()
    return Kinds(pointwise=(library.nn.layers.Snake1d, nn.Tanh), residual=(library.model.dac.ResidualUnit,))


def _fold_weight_norm(model: nn.Module) -> None:
    """Compute each weight from its direction and norm once, not at every call."""
    for module in model.modules():
        if hasattr(module, "weight_g"):
            nn.utils.remove_weight_norm(module)


def _content(loaded: Any, path: Path) -> tuple[dict[str, Any], Any]:
    """The model's arguments and tensors, in the library's format."""
    try:
        kwargs, tensors = loaded["metadata"]["kwargs"], loaded["state_dict"]
        return {key: kwargs[key] for key in DacConfig.model_fields if key in kwargs}, tensors
    except (TypeError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{path} holds no DAC: it lacks metadata.kwargs or state_dict; give a file as published "
            f"({', '.join(PUBLISHED)})"
        ) from error


def _load(model: nn.Module, tensors: Any, path: Path) -> None:
    """All of the model's tensors; what else the file holds is left, as the library does.

    Raises:
        CheckpointError: when one is missing or of another shape.
    """
    try:
        missing = model.load_state_dict(tensors, strict=False).missing_keys
        problem = f"lacks {missing[0]}" if missing else None
    except (RuntimeError, TypeError, AttributeError) as error:
        problem = f"does not fit: {_first_difference(error)}"
    if problem is not None:
        raise CheckpointError(
            f"{path} is not the DAC that its metadata tells ({problem}); it is damaged or another model's: "
            "fetch it again"
        )


def _first_difference(error: Exception) -> str:
    """Torch lists every tensor that does not fit, one a line under a heading."""
    lines = str(error).strip().splitlines()
    return " ".join(lines[min(1, len(lines) - 1)].split())[:200]
