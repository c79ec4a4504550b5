"""Sizes of the SoundStream codec."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paluku.codec.quantizer import QuantizerConfig
from paluku.codec.semantic import SemanticConfig
from paluku.config import Config
from paluku.units import frame_samples


class SoundStreamConfig(Config):
    """The sizes of Lyra V2's networks, by default; smaller ones are for tests.

    One frame, 1/25 s, is `hops_per_frame` outputs of the encoder side by side: a codebook of 256 entries for
    two outputs together says more than two codebooks of 16 for each.
    """

    architecture: Literal["soundstream"] = "soundstream"
    sample_rate_hz: int = 16_000
    channels: int = Field(default=64, ge=1)  # of the first layer; each further stride has twice as many
    strides: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(16, 5, 2, 2), min_length=2)
    feature_dim: int = Field(default=64, ge=1)
    hops_per_frame: int = Field(default=2, ge=1)
    num_codebooks: int = Field(default=16, ge=1)
    codebook_size: int = Field(default=256, ge=2)
    quantizer: QuantizerConfig = QuantizerConfig()
    semantic: SemanticConfig | None = None  # none: the first codebook codes sound like the others

    @property
    def hop_samples(self) -> int:
        """Samples to one output of the encoder."""
        return math.prod(self.strides)

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.hop_samples * self.hops_per_frame

    @property
    def latent_dim(self) -> int:
        """`D` of what the quantizer codes."""
        return self.feature_dim * self.hops_per_frame

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each stride."""
        return tuple(self.channels * 2**index for index in range(len(self.strides)))

    @property
    def feature_groups(self) -> int:
        """Of the convolutions between the widest layer and the features."""
        return max(1, self.widths[-1] // (2 * self.channels))

    @model_validator(mode="after")
    def _fits(self) -> "SoundStreamConfig":
        wanted = frame_samples(self.sample_rate_hz)
        if self.frame_samples != wanted:
            raise ValueError(
                f"strides and hops_per_frame make frames of {self.frame_samples} samples; at "
                f"{self.sample_rate_hz} Hz a frame has {wanted}"
            )
        if self.feature_dim % self.feature_groups:
            raise ValueError(
                f"feature_dim is {self.feature_dim}; make it a multiple of {self.feature_groups}"
            )
        return self
