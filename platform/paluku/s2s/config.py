"""The sizes of an S2S model."""

from pydantic import Field, model_validator

from paluku.config import Config
from paluku.nn.transformer import NORM_EPSILON, ROPE_BASE
from paluku.tokens.layout import acoustic_delays
from paluku.voices import VOICES


class DepthConfig(Config):
    """The transformer within a frame."""

    dim: int = Field(default=128, ge=2)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward_dim: int | None = Field(default=None, ge=1)
    per_step: bool = False  # each codebook has its own matrices, as in Moshi
    # Moshi's has neither: a step is known by its own matrices, and each code's head reads the last block.
    rotary: bool = True
    last_norm: bool = True


class HearingConfig(Config):
    """The network over what the user's last two seconds sounded like (`s2s.hearing`)."""

    dim: int = Field(default=128, ge=2)  # of a frame's embedding
    width: int = Field(default=256, ge=2)
    hidden: int = Field(default=512, ge=1)  # of each block
    dilations: tuple[int, ...] = Field(default=(1, 1, 2, 2, 3, 3, 4, 4, 6), min_length=1)  # in frames
    sounds_after: int = Field(default=6, ge=0)  # blocks; words and what is asked are told from the last one
    evidence: int = Field(default=1024, ge=1)  # features that what is asked is read from
    # The transformer is also told the sum of what intents are read from, over so many frames: about a turn's.
    gathers: int = Field(default=0, ge=0)
    # In training, of the blocks' channels, and of the evidence.
    dropout: float = Field(default=0.1, ge=0, lt=1)
    drop_evidence: float = Field(default=0.3, ge=0, lt=1)

    @property
    def block_past(self) -> int:
        """Frames that the blocks keep, together."""
        return 2 * sum(self.dilations)

    @property
    def past(self) -> int:
        """Frames before the present one that decide what is heard."""
        return self.block_past + max(0, self.gathers - 1)

    @property
    def sizes(self) -> "HearingConfig":
        """Without what only training heeds: two that hear alike have the same."""
        return self.model_copy(update={"dropout": 0.0, "drop_evidence": 0.0})

    @model_validator(mode="after")
    def _blocks_fit(self) -> "HearingConfig":
        if min(self.dilations) < 1 or self.sounds_after >= len(self.dilations):
            raise ValueError(
                f"dilations {self.dilations} must be 1 or more each, and more than sounds_after "
                f"({self.sounds_after})"
            )
        return self


class S2SConfig(Config):
    """The default: 6 layers of 256, 2 of 128 in depth, a window of 15 s at 25 frames a second."""

    num_codebooks: int = Field(default=8, ge=1)
    codebook_size: int = Field(default=256, ge=2)
    text_vocab: int = Field(default=1024, ge=2)
    dim: int = Field(default=256, ge=2)
    layers: int = Field(default=6, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward_dim: int | None = Field(default=None, ge=1)  # 8/3 dim, rounded up to 32
    window: int = Field(default=375, ge=1)  # frames the temporal transformer sees, its own included
    rope_base: float = Field(default=ROPE_BASE, gt=1)
    norm_epsilon: float = Field(default=NORM_EPSILON, gt=0)
    acoustic_delay: int = Field(default=1, ge=0)
    # None: a user's frame is heard whole, at once. Moshi hears its acoustic codes so many frames late, and
    # hears nothing of the frames before the first position it said something at (`S2SModel.heard`).
    user_delay: int | None = Field(default=None, ge=0)
    # A head for the user's transcript; without one `hearing`, where there is one, tells it.
    user_text: bool = True
    # What that head has told goes in again a position later, as our own text does: a model that does not know
    # what it has told tells words twice. Without it the transcript is an output only.
    hears_transcript: bool = False
    hearing: HearingConfig | None = None  # none, as in Moshi: the transformer hears codes as they are
    speaker_dim: int = Field(default=192, ge=len(VOICES))
    depth: DepthConfig = DepthConfig()

    @model_validator(mode="after")
    def _heads_fit(self) -> "S2SConfig":
        for name, dim, heads in (
            ("heads", self.dim, self.heads),
            ("depth.heads", self.depth.dim, self.depth.heads),
        ):
            if dim % (2 * heads):
                raise ValueError(f"{name} is {heads}; a width of {dim} has no even share for each")
        return self

    @model_validator(mode="after")
    def _transcript_is_told(self) -> "S2SConfig":
        if self.hears_transcript and not self.user_text:
            raise ValueError("hears_transcript needs the transcript; set user_text, or leave it out")
        return self

    @property
    def delays(self) -> tuple[int, ...]:
        """Of each of our codebooks, in positions."""
        return acoustic_delays(self.num_codebooks, self.acoustic_delay)

    @property
    def user_delays(self) -> tuple[int, ...]:
        """Of each of the user's codebooks, in positions."""
        return acoustic_delays(self.num_codebooks, self.user_delay or 0)

    @property
    def pad_code(self) -> int:
        """The token of a codebook that stands for no frame, and for "nothing yet"."""
        return self.codebook_size

    @property
    def initial_text(self) -> int:
        """The text token before the first: an input only."""
        return self.text_vocab
