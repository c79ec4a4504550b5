"""Sizes of EnCodec; apart from the codec, which needs package `encodec`."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paluku.codec.quantizer import QuantizerConfig
from paluku.config import Config

SAMPLE_RATE_HZ = 24_000
# The published file's codebooks; a bandwidth takes the first ones.
MAX_CODEBOOKS = 32


class EncodecConfig(Config):
    """The published architecture by default; smaller ones are for tests."""

    architecture: Literal["encodec"] = "encodec"
    bandwidth_kbps: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    n_filters: int = Field(default=32, ge=1)
    ratios: tuple[Annotated[int, Field(ge=1)], ...] = (8, 5, 4, 2)
    lstm_layers: int = Field(default=2, ge=1)
    dimension: int = Field(default=128, ge=1)
    codebook_size: int = Field(default=1024, ge=2)
    # True: each weight as length and direction, as EnCodec was trained. False: multiplied out, the same
    # function, without computing the weights anew in each step (see `EncodecCodec.folded`).
    weight_norm: bool = False
    quantizer: QuantizerConfig = QuantizerConfig()

    @property
    def sample_rate_hz(self) -> int:
        """24000."""
        return SAMPLE_RATE_HZ

    @property
    def frame_samples(self) -> int:
        """Samples in one frame: 320, 75 frames a second."""
        return math.prod(self.ratios)

    @property
    def kbps_per_codebook(self) -> float:
        """0.75."""
        return SAMPLE_RATE_HZ / self.frame_samples * math.log2(self.codebook_size) / 1000

    @property
    def num_codebooks(self) -> int:
        """`K`: 2, 4, 8, 16, 32 for 1.5, 3, 6, 12, 24 kbps."""
        return round(self.bandwidth_kbps / self.kbps_per_codebook)

    @model_validator(mode="after")
    def _codebooks_are_whole(self) -> "EncodecConfig":
        each, number = self.kbps_per_codebook, self.num_codebooks
        if not 1 <= number <= MAX_CODEBOOKS or not math.isclose(number * each, self.bandwidth_kbps):
            raise ValueError(
                f"bandwidth_kbps is {self.bandwidth_kbps:g}; it must be 1 to {MAX_CODEBOOKS} codebooks of "
                f"{each:g} kbps: 1.5, 3, 6, 12 or 24 in the published sizes"
            )
        return self
