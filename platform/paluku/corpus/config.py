"""What a corpus is built from, and how."""

import hashlib
import json
from typing import Any

from pydantic import Field, model_validator

from paluku.config import Config
from paluku.corpus.preparation.prepare import Preparation
from paluku.corpus.sources.config import SourceConfig
from paluku.corpus.sources.folder import FolderConfig
from paluku.corpus.splits import CorpusShares
from paluku.corpus.storage import AnyPlace, without_keys
from paluku.corpus.voices.sentences import SpokenConfig

# These say where, how fast and how patiently a corpus is built, not what is in it.
NO_RECIPE = ("out", "overwrite", "max_reject_share", "part_minutes", "cpus_per_task")


class CorpusConfig(Config):
    """Settings of `jobs/build_corpus.py`; `out` becomes a folder of utterances (`corpus.shards`)."""

    out: AnyPlace  # an absolute path (on a cluster: one that every node reaches) or a URI
    sources: tuple[SourceConfig, ...] = ()
    recordings: AnyPlace | None = None  # one more source, short for a folder (or its manifest.jsonl)
    max_source_s: float | None = Field(default=None, gt=0)  # of each source among those recordings
    # Which of those recordings; none are all. Left out of a recipe that has none.
    languages: tuple[str, ...] = Field(default=(), exclude_if=lambda given: not given)
    preparation: Preparation = Preparation()
    shares: CorpusShares = CorpusShares()
    seed: int = 0
    shard_mb: float = Field(default=128.0, gt=0)  # of audio; a shard ends with the row that reaches it
    part_minutes: float = Field(default=10.0, gt=0)  # of sound in one task
    cpus_per_task: float = Field(default=1.0, gt=0)
    max_reject_share: float = Field(default=0.02, ge=0, le=1)  # duplicates are no fault and do not count
    overwrite: bool = False  # replace a finished corpus of another recipe or listing

    @model_validator(mode="after")
    def _something_to_read(self) -> "CorpusConfig":
        if not self.all_sources:
            raise ValueError("there is nothing to build from; give sources, or recordings=FOLDER")
        return self

    @property
    def all_sources(self) -> tuple[SourceConfig, ...]:
        """The sources, and the recordings as the last of them."""
        if self.recordings is None:
            return self.sources
        folder = FolderConfig(
            folder=self.recordings, max_source_s=self.max_source_s, languages=self.languages, seed=self.seed
        )
        return (*self.sources, folder)

    @property
    def recipe(self) -> dict[str, Any]:
        """What the corpus depends on, as plain values."""
        return _without_keys(self.model_dump(mode="json", exclude=set(NO_RECIPE)))

    def located(self) -> "CorpusConfig":
        """With the voices' files that this machine's environment names, for workers on others."""
        casts = [
            source.model_copy(update={"cast": source.cast.located()})
            if isinstance(source, SpokenConfig)
            else source
            for source in self.sources
        ]
        return self.model_copy(update={"sources": tuple(casts)})

    def recipe_sha256(self) -> str:
        """Names the recipe."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()


def _without_keys(values: Any) -> Any:
    """Plain values, no store's keys among them: a manifest goes where the data goes."""
    if isinstance(values, dict):
        return {name: _without_keys(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_without_keys(value) for value in values]
    return without_keys(values) if isinstance(values, str) else values
