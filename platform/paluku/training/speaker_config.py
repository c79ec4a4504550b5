"""Settings of a speaker encoder's training run."""

from pydantic import Field, model_validator

from paluku.config import AbsolutePath, Config
from paluku.corpus.shards import Split
from paluku.speakers.encoder import SpeakerEncoderConfig
from paluku.training.disturbances import Disturbances


class SpeakerTrainingConfig(Config):
    """One run. `batch` speakers are per worker; steps are counted from 1 in everything that is written."""

    corpus: AbsolutePath  # folder of utterances (paluku.corpus.shards), split by speaker
    out: AbsolutePath  # checkpoints come here
    model: SpeakerEncoderConfig = SpeakerEncoderConfig()
    # A speaker who is played faster or slower is another one (Yamamoto et al. 2019): a class each.
    speeds: tuple[float, ...] = Field(default=(0.9, 1.0, 1.1), min_length=1)
    disturbances: Disturbances = Disturbances()
    scale: float = Field(default=30.0, gt=0)
    margin: float = Field(default=0.2, ge=0, lt=1.5)  # radians
    # The margin climbs in between: with a full one from the start little is learned.
    margin_from_share: float = Field(default=0.1, ge=0, le=1)  # of the steps
    margin_to_share: float = Field(default=0.4, ge=0, le=1)
    average_decay: float = Field(default=0.995, ge=0, lt=1)
    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=24, ge=1)
    utterances_per_speaker: int = Field(default=2, ge=1)
    crop_s: tuple[float, float] = (2.0, 3.0)  # drawn for each step
    cached_utterances: int = Field(default=8192, ge=0)  # decoded, 32 kB a second
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.02, ge=0)
    max_gradient_norm: float = Field(default=5.0, gt=0)
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    evaluate_split: Split = "dev"
    evaluate_pairs: int = Field(default=500, ge=1)  # of one speaker, and as many of two, in each source
    evaluate_s: float = Field(default=6.0, ge=0.2)  # of each utterance
    checkpoint_every: int = Field(default=250, ge=1)

    @model_validator(mode="after")
    def _ranges_rise(self) -> "SpeakerTrainingConfig":
        for name in ("crop_s", "speeds"):
            values = getattr(self, name)
            if list(values) != sorted(values):
                raise ValueError(f"{name} is {values}; give them from the least to the greatest")
        if len(set(self.speeds)) < len(self.speeds):
            raise ValueError(f"speeds is {self.speeds}; give each once: it is another speaker")
        if self.speeds[0] <= 0.5 or self.crop_s[0] < 0.2:
            raise ValueError("speeds below 0.5 and crops below 0.2 s are of no speaker; give greater ones")
        if self.margin_from_share > self.margin_to_share:
            raise ValueError("margin_from_share is greater than margin_to_share; exchange them")
        if self.batch * self.utterances_per_speaker < 2:
            raise ValueError("batch is 1 and utterances_per_speaker too: norms over a batch need two crops")
        return self

    def margin_at(self, step: int) -> float:
        """At `step` (0-based): none, then a linear climb, then all of it."""
        first, last = (share * self.steps for share in (self.margin_from_share, self.margin_to_share))
        return self.margin * min(max((step - first) / max(last - first, 1.0), 0.0), 1.0)
