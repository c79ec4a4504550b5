"""Dialogues to codes with Ray Data: one row is a shard of dialogues, actors hold the codec.

As in `cluster.corpus`, actors write their shards straight into the (shared) folder and a retried
task writes the same bytes again; the driver adds the manifest and then gives the folder its name.
"""

from pathlib import Path
from typing import Any

import ray.data
from pydantic import Field

from paluku.cluster.shard_tasks import carried, outcomes, plans_dataset
from paluku.codec.trainable import TrainableCodec
from paluku.config import AbsolutePath, Config
from paluku.corpus.shards import (
    SPLITS,
    Manifest,
    ShardInfo,
    ShardSet,
    Split,
    hours,
    read_manifest,
    write_manifest,
    write_shard,
)
from paluku.errors import CorpusError
from paluku.registry.artefact import Card, appearing_whole
from paluku.registry.codecs import load_codec, with_first_codebooks
from paluku.tokens.extract import dialogue_tokens
from paluku.tokens.text import CharTokenizer


class ExtractConfig(Config):
    """Settings of `jobs/extract_tokens.py`. On a cluster every node must reach all three folders."""

    dialogues: AbsolutePath  # a corpus of dialogues
    codec: AbsolutePath  # a codec's model folder
    out: AbsolutePath
    num_codebooks: int | None = Field(default=None, ge=1)  # the codec's first ones; without: all
    actors: int = Field(default=1, ge=1)  # each holds a codec
    cpus_per_actor: float = Field(default=1.0, gt=0)


class ShardPlan(Config):
    """Rows `first` to `first + rows` of a split's dialogues become its shard `number`."""

    split: Split
    number: int
    first: int
    rows: int


class ShardOutcome(Config):
    """A shard of tokens, and its length in codec frames."""

    shard: ShardInfo
    frames: int


def extract(config: ExtractConfig) -> Manifest:
    """Encode every dialogue and place its transcript; the folder appears whole or not at all.

    Raises:
        CorpusError: when the dialogues are missing, damaged, or of another rate than the codec's.
        CheckpointError: when the codec's folder is damaged or holds something else.
        StorageError: when the place is full or read-only.
    """
    card, codec = shallow_codec(config)  # here too: an actor that cannot start hides why
    dialogues = read_manifest(config.dialogues, "dialogues")
    with appearing_whole(config.out) as partial:
        done = _run(dialogues, partial, config)
        manifest = Manifest(
            kind="tokens",
            config_sha256=card.config_sha256,
            parents={"codec": card.hash, "dialogues": dialogues.hash, "tokenizer": CharTokenizer().digest()},
            shards=tuple(outcome.shard for outcome in done),
            hours={
                split: hours((o.frames for o in done if o.shard.split == split), codec.frame_rate_hz)
                for split in SPLITS
            },
        )
        write_manifest(partial, manifest)
    return manifest


def shallow_codec(config: ExtractConfig) -> tuple[Card, TrainableCodec]:
    """The codec with as many codebooks as are asked for.

    Raises:
        CheckpointError: as `load_codec`.
        ConfigError: when it has fewer, or cannot do with fewer.
    """
    card, codec = load_codec(config.codec)
    return card, with_first_codebooks(codec, config.num_codebooks or codec.num_codebooks, str(config.codec))


class Extractor:
    """What an actor does: a codec of its own, and one shard a call."""

    def __init__(self, config: str, folder: str) -> None:
        self._config = ExtractConfig.model_validate_json(config)
        self._folder = Path(folder)
        _, self._codec = shallow_codec(self._config)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """One row of `plans_dataset`."""
        return carried(self._shard, row)

    def _shard(self, text: str) -> str:
        plan = ShardPlan.model_validate_json(text)
        dialogues = ShardSet(self._config.dialogues, "dialogues", plan.split)
        rows = dialogues.rows(range(plan.first, plan.first + plan.rows))
        tokens = [self._tokens(row) for row in rows]
        shard = write_shard(self._folder, "tokens", plan.split, plan.number, tokens)
        return ShardOutcome(shard=shard, frames=sum(row["num_frames"] for row in tokens)).model_dump_json()

    def _tokens(self, dialogue: dict[str, Any]) -> dict[str, Any]:
        rate_hz = self._codec.sample_rate_hz
        if dialogue["sample_rate_hz"] != rate_hz:
            raise CorpusError(
                f"{self._config.dialogues} is sampled at {dialogue['sample_rate_hz']} Hz, the codec takes "
                f"{rate_hz} Hz; build the corpus with sample_rate_hz={rate_hz}"
            )
        return dialogue_tokens(dialogue, self._codec, CharTokenizer())


def _run(dialogues: Manifest, folder: Path, config: ExtractConfig) -> list[ShardOutcome]:
    """In the order of the splits, and within one in the order of the dialogues' shards."""
    dataset = plans_dataset([plan.model_dump_json() for plan in _plans(dialogues)]).map(
        Extractor,  # pyright: ignore[reportArgumentType] (Ray's own type for classes is unbound)
        fn_constructor_kwargs={"config": config.model_dump_json(), "folder": str(folder)},
        compute=ray.data.ActorPoolStrategy(size=config.actors),
        num_cpus=config.cpus_per_actor,
    )
    return [ShardOutcome.model_validate_json(outcome) for outcome in outcomes(dataset)]


def _plans(dialogues: Manifest) -> list[ShardPlan]:
    plans: list[ShardPlan] = []
    for split in SPLITS:
        first = 0
        for number, shard in enumerate(s for s in dialogues.shards if s.split == split):
            plans.append(ShardPlan(split=split, number=number, first=first, rows=shard.rows))
            first += shard.rows
    return plans
