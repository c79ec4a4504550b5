"""Settings of a codec training run."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from paluku.codec.native import NativeCodecConfig
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.codec.trainable import TrainableConfig
from paluku.config import AbsolutePath, Config
from paluku.registry.codecs import BEGINNINGS, brings_codebooks
from paluku.training.balancer import BalancerConfig
from paluku.training.gan import GanConfig
from paluku.units import FRAME_RATE_HZ

DIRECT = ("commitment", "teacher")


class LossWeights(Config):
    """What each loss counts. Those of the wave share one push (`training.balancer`); 0 leaves a loss out."""

    wave: float = Field(default=0.0, ge=0)
    band: float = Field(default=1.0, ge=0)
    loudness: float = Field(default=0.0, ge=0)
    mel: float = Field(default=0.5, ge=0)
    adversarial: float = Field(default=0.5, ge=0)
    feature: float = Field(default=0.5, ge=0)
    # These two do not go through the wave: they are added as they are.
    commitment: float = Field(default=0.25, ge=0)
    teacher: float = Field(default=0.1, ge=0)

    @property
    def of_the_wave(self) -> dict[str, float]:
        """The weights that the balancer shares out."""
        return {name: weight for name, weight in self.model_dump().items() if weight and name not in DIRECT}


class CodecTrainingConfig(Config):
    """One run. `batch` is per worker; steps are counted from 1 in everything that is written."""

    corpus: AbsolutePath  # folder of utterances (paluku.corpus.shards)
    out: AbsolutePath  # checkpoints and samples come here
    teacher: AbsolutePath | None = None  # what a speech encoder heard in them (jobs/extract_teacher.py)
    model: TrainableConfig = NativeCodecConfig()
    # Weights to begin with: `encodec` or `lyra` (published), the path of such a file, or a model folder.
    begin_from: str | None = None
    # Parts of the codec that stay as they begin; `semantic` always does.
    frozen: tuple[Literal["encoder", "decoder", "quantizer", "semantic"], ...] = ()
    weights: LossWeights = LossWeights()
    balancer: BalancerConfig = BalancerConfig()
    gan: GanConfig = GanConfig()
    adversarial_after_steps: int | None = Field(default=None, ge=0)  # none: no discriminators
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=16, ge=1)
    crop_s: float = Field(default=1.0, ge=0.2)  # no shorter than the losses' windows
    levels_db: tuple[float, float] = (0.0, 0.0)  # crops are made softer or louder by a gain in this range
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    prepare_from_batches: int = Field(default=25, ge=1)  # what linear path and codebooks begin from
    quantise_after_steps: int = Field(default=50, ge=0)
    max_gradient_norm: float = Field(default=5.0, gt=0)
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int = Field(default=500, ge=1)
    evaluate_clips: int = Field(default=8, ge=1)  # per worker
    evaluate_s: float = Field(default=4.0, gt=0)
    checkpoint_every: int = Field(default=500, ge=1)

    @property
    def begins_with_codebooks(self) -> bool:
        """Whether they come with the weights that the run begins with."""
        return brings_codebooks(self.begin_from)

    @model_validator(mode="after")
    def _quantises(self) -> "CodecTrainingConfig":
        if not self.begins_with_codebooks and self.quantise_after_steps >= self.steps:
            raise ValueError(
                f"quantise_after_steps is {self.quantise_after_steps}, steps {self.steps}: "
                "the codebooks would never be learned; give more steps"
            )
        if not self.weights.of_the_wave.keys() & {"wave", "band", "loudness", "mel"}:
            raise ValueError(
                "weights leave out wave, band, loudness and mel: nothing would pull towards the original"
            )
        return self

    @field_validator("begin_from")
    @classmethod
    def _is_found_from_everywhere(cls, value: str | None) -> str | None:
        """Workers run in other folders."""
        if value is not None and value not in BEGINNINGS and not Path(value).is_absolute():
            raise ValueError(f"begin_from is {value!r}; give {' or '.join(BEGINNINGS)}, or an absolute path")
        return value

    @model_validator(mode="after")
    def _semantic_codebook_is_there(self) -> "CodecTrainingConfig":
        has_one = isinstance(self.model, SoundStreamConfig) and self.model.semantic is not None
        if has_one and not self.begins_with_codebooks:
            raise ValueError(
                "model.semantic does not learn here: make such a codec with jobs/requantise_codec.py and "
                "name its folder as begin_from, or leave it out"
            )
        if "semantic" in self.frozen and not has_one:
            raise ValueError("frozen names semantic, which the model has not; leave it out")
        return self

    @model_validator(mode="after")
    def _something_learns(self) -> "CodecTrainingConfig":
        if {"encoder", "decoder"} <= {*self.frozen}:
            raise ValueError("frozen names encoder and decoder: no network would learn; leave one out")
        return self

    @model_validator(mode="after")
    def _teacher_fits(self) -> "CodecTrainingConfig":
        if self.teacher is not None and self.model.sample_rate_hz / self.model.frame_samples != FRAME_RATE_HZ:
            raise ValueError(
                f"a teacher has {FRAME_RATE_HZ} frames a second, {self.model.architecture} has "
                f"{self.model.sample_rate_hz / self.model.frame_samples:g}; train it without one"
            )
        return self
