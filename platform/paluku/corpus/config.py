"""What a corpus is built from."""

import hashlib
from pathlib import Path

from pydantic import Field

from paluku.config import AbsolutePath, Config
from paluku.corpus.dialogues import Timing
from paluku.corpus.quality import Limits
from paluku.corpus.splits import SplitShares
from paluku.voices import VOICES, VoiceName


class CorpusConfig(Config):
    """Settings of `jobs/build_corpus.py`; `out/utterances` and `out/dialogues` are what it makes."""

    out: AbsolutePath  # on a cluster: a folder that every node reaches
    turns: Path  # questions and answers, spoken as dialogues and as single sentences
    recordings: Path | None = None  # a folder of audio files, with or without a manifest.jsonl
    max_source_s: float | None = Field(default=None, gt=0)  # of each source among the recordings
    spoken_utterances: int = Field(default=0, ge=0)
    dialogues: int = Field(ge=1)
    reply_voices: tuple[VoiceName, ...] = Field(default=VOICES, min_length=1)
    timing: Timing = Timing()
    limits: Limits = Limits()
    sample_rate_hz: int = Field(default=16_000, ge=8_000, multiple_of=25)
    shares: SplitShares = SplitShares()
    seed: int = 0
    rows_per_shard: int = Field(default=1024, ge=1)
    max_reject_share: float = Field(default=0.02, ge=0, le=1)

    def recipe_sha256(self) -> str:
        """Names the settings, not the places: the same corpus built elsewhere has the same hash."""
        recipe = self.model_dump_json(exclude={"out", "turns", "recordings", "max_reject_share"})
        return hashlib.sha256(recipe.encode()).hexdigest()
