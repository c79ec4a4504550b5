"""Settings of an S2S training run."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from paluku.config import AbsolutePath, Config
from paluku.s2s.losses import StreamWeights
from paluku.s2s.model import S2SConfig
from paluku.tokens.batches import Sizes

MOSHI = "kyutai/"


class LoraConfig(Config):
    """Low-rank adapters of every linear layer (Hu et al. 2021, "LoRA"), by package `peft`.

    What is added to a matrix is `alpha / rank` times a product of two matrices of this rank.
    """

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)


class S2STrainingConfig(Config):
    """One run. `batch` is rows per worker and pass; steps are counted from 1 in what is written."""

    tokens: AbsolutePath  # folder of tokens (paluku.corpus.shards)
    out: AbsolutePath  # checkpoints come here
    model: S2SConfig = S2SConfig()
    # Weights to begin with: a model folder, Moshi's published ones (kyutai/NAME), or a file of those.
    begin_from: str | None = None
    # Whose codebooks the embeddings of codes begin as: the shipped codec, a folder, or none: at random.
    codes_from: str | None = None
    speakers: str = "default"  # whose voices' vectors: shipped ones, a model folder, or none
    lora: LoraConfig | None = None  # none: every weight learns

    # What the losses count (`s2s.losses.StreamWeights`).
    text_weight: float = Field(default=1.0, ge=0)
    user_text_weight: float = Field(default=0.5, ge=0)
    first_code_weight: float = Field(default=8.0, ge=0)
    pad_weight: float = Field(default=0.5, ge=0, le=1)
    silence_weight: float = Field(default=1.0, ge=0, le=1)
    # The share of frames whose codes are predicted in a step, drawn anew in each.
    depth_share: float = Field(default=1.0, gt=0, le=1)
    # What the model hears worse than it was said: the share of dialogues in which it hears only the user's
    # first codebooks (a random number of them), and the share of frames, in gaps, in which it hears nothing:
    # of each dialogue another one, up to this. One that always knows what was asked does not learn to go on
    # from its own words.
    drop_codebooks: float = Field(default=0.0, ge=0, le=1)
    hide_frames: float = Field(default=0.0, ge=0, lt=1)
    # As much of its own codes does not go in again: words follow from words, then, not from their sound.
    hide_own: float = Field(default=0.0, ge=0, lt=1)
    # Dialogues that nobody held (`training.recombination`): the share of users' turns that are exchanged for
    # others with the same intent, of these tokens and of those in `asks_from`; and the probability, at each
    # turn, that the dialogue goes on as another one does.
    other_asks: float = Field(default=0.0, ge=0, le=1)
    other_endings: float = Field(default=0.0, ge=0, le=1)
    asks_from: tuple[AbsolutePath, ...] = ()  # folders of tokens
    dropout: float = Field(default=0.0, ge=0, lt=1)  # of what each temporal block adds
    drop_speaker: float = Field(default=0.1, ge=0, le=1)  # probabilities, for classifier-free guidance
    drop_style: float = Field(default=0.1, ge=0, le=1)

    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)  # passes before an update
    max_frames: int = Field(default=500, ge=2)  # of a dialogue: longer ones are cropped
    row_frames: int | None = Field(default=None, ge=2)  # of a row, which holds whole crops; none: max_frames
    start_share: float = Field(default=0.5, ge=0, le=1)  # of the crops: those that begin at frame 0
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.1, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    parallel: Literal["ddp", "fsdp"] = "ddp"  # how several workers share the model
    bfloat16: bool = True  # matrix products: on GPUs, and on CPUs that multiply it (2 x the speed)
    recompute: bool = False  # activations in the backward pass: less memory, a third more work
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    evaluate_batches: int = Field(default=4, ge=1)  # of the dev split, per worker
    checkpoint_every: int = Field(default=250, ge=1)

    @property
    def sizes(self) -> Sizes:
        """What the tokens must fit."""
        return Sizes(self.model.num_codebooks, self.model.codebook_size, self.model.text_vocab)

    @property
    def width(self) -> int:
        """Frames of a row."""
        return self.row_frames or self.max_frames

    @property
    def weights(self) -> StreamWeights:
        """As the losses take them."""
        return StreamWeights(
            self.text_weight,
            self.user_text_weight,
            self.first_code_weight,
            self.pad_weight,
            self.silence_weight,
        )

    @field_validator("begin_from", "codes_from", "speakers")
    @classmethod
    def _is_found_from_everywhere(cls, value: str | None) -> str | None:
        """Workers run in other folders."""
        if value in (None, "default", "none") or value.startswith(MOSHI) or Path(value).is_absolute():
            return value
        raise ValueError(f"{value!r} must be an absolute path: a job's working directory is temporary")

    @model_validator(mode="after")
    def _codes_begin_once(self) -> "S2STrainingConfig":
        if self.begin_from is not None and self.codes_from is not None:
            raise ValueError("begin_from brings its own embeddings of codes; leave codes_from out")
        return self

    @model_validator(mode="after")
    def _hearing_has_learned(self) -> "S2STrainingConfig":
        if self.model.hearing is not None and self.begin_from is None:
            raise ValueError(
                "a model with hearing needs begin_from: a model whose hearing has learned "
                "(training.hearing_loop)"
            )
        return self

    @model_validator(mode="after")
    def _asks_are_heard(self) -> "S2STrainingConfig":
        if self.asks_from and not self.other_asks:
            raise ValueError(
                "asks_from names tokens of which nothing is heard; set other_asks, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _rows_hold_crops(self) -> "S2STrainingConfig":
        if self.width < self.max_frames:
            raise ValueError(
                f"row_frames is {self.row_frames}, max_frames {self.max_frames}: a crop has no room"
            )
        return self
