"""What a source lists: one recording, or one sentence to be spoken. Nothing is decoded yet."""

from pydantic import Field, model_validator

from paluku.config import Config

UNDETERMINED = "und"  # ISO 639-2


class Utterance(Config):
    """A recording (it has a `path`), or a `text` to be spoken by a `voice` of `corpus.voices`.

    `id` is unique in its source and the same in every listing. `path` is a local path or a URI that
    `corpus.storage` opens (`s3://bucket/key`, `gs://bucket/key`).
    """

    id: str
    path: str | None = None
    start_s: float = Field(default=0.0, ge=0)  # of a recording that is a stretch of a longer file
    end_s: float | None = Field(default=None, gt=0)
    voice: str | None = None
    text: str | None = None  # as the corpus has it; the pipeline normalises it
    language: str = UNDETERMINED
    speaker: str
    gender: str | None = None
    source: str
    licence: str = "unknown"
    duration_s: float = Field(default=0.0, ge=0)  # as far as it is known before decoding

    @model_validator(mode="after")
    def _recorded_or_spoken(self) -> "Utterance":
        if self.path is None and (self.text is None or self.voice is None):
            raise ValueError(f"{self.id} has neither a path nor a text and a voice to speak it")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"{self.id} ends at {self.end_s} s, before its start at {self.start_s} s")
        return self
