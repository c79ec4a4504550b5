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
    """The network over the user's last frames (`s2s.hearing`): half a second of them."""

    window: int = Field(default=12, ge=1)  # frames, the present one included
    dim: int = Field(default=128, ge=2)  # of a frame's embedding
    hidden: int = Field(default=512, ge=1)
    # In training, of the hidden layers, and half as much of the windows: voices are soon known by heart.
    dropout: float = Field(default=0.3, ge=0, lt=1)


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
    user_text: bool = True  # a head for the user's transcript
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
    def _hearing_learns_from_text(self) -> "S2SConfig":
        if self.hearing is not None and not self.user_text:
            raise ValueError("hearing is trained by the user's text; set user_text, or leave hearing out")
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
