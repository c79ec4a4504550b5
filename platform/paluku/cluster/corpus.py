"""Building a corpus with Ray Data: one row is the plan of a shard, one task makes it.

Workers write their shards straight into the (shared) folder, so nothing but plans and outcomes
travels, and a retried task writes the same bytes again. The driver adds the manifest and only then
gives the folder its name.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from paluku.cluster.shard_tasks import carried, outcomes, plans_dataset
from paluku.corpus.config import CorpusConfig
from paluku.corpus.espeak import Espeak
from paluku.corpus.planning import (
    Reject,
    ShardOutcome,
    ShardPlan,
    make_shard,
    plan_dialogue_shards,
    plan_utterance_shards,
)
from paluku.corpus.shards import SPLITS, Kind, Manifest, hours, write_manifest, write_table
from paluku.corpus.turns import read_turns
from paluku.errors import CorpusError
from paluku.registry.artefact import appearing_whole, sha256_file

REJECTS = "rejects.parquet"
REJECT_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "split", "reason", "detail")])


class Manifests(NamedTuple):
    """What a build leaves in `out/utterances` and `out/dialogues`."""

    utterances: Manifest
    dialogues: Manifest


def build(config: CorpusConfig) -> Manifests:
    """List, decode or speak, check, and write both corpora; each folder appears whole or not at all.

    Raises:
        CorpusError: when a source is missing or broken, or too many of its items were rejected.
        StorageError: when the place is full or read-only.
    """
    turns, voices = read_turns(config.turns), Espeak().voices
    parents = {"turns": sha256_file(config.turns)[:16]}
    utterances = plan_utterance_shards(config, turns, voices)
    dialogues = plan_dialogue_shards(config, turns, voices)
    return Manifests(
        _build(config, "utterances", utterances, parents),
        _build(config, "dialogues", dialogues, parents),
    )


def _build(config: CorpusConfig, kind: Kind, plans: Sequence[ShardPlan], parents: dict[str, str]) -> Manifest:
    with appearing_whole(config.out / kind) as partial:
        done = _run(plans, partial, config)
        rejects = [reject for outcome in done for reject in outcome.rejects]
        _refuse_too_many(rejects, sum(len(plan.items) for plan in plans), kind, config)
        table = pa.Table.from_pylist([reject.model_dump() for reject in rejects], schema=REJECT_SCHEMA)
        write_table(partial / REJECTS, table)
        manifest = _manifest(done, kind, config, parents)
        write_manifest(partial, manifest)
    return manifest


def _run(plans: Sequence[ShardPlan], folder: Path, config: CorpusConfig) -> list[ShardOutcome]:
    """The outcomes, in the order of the plans."""
    make = functools.partial(_make, folder=str(folder), config=config.model_dump_json())
    dataset = plans_dataset([plan.model_dump_json() for plan in plans]).map(functools.partial(carried, make))
    return [ShardOutcome.model_validate_json(outcome) for outcome in outcomes(dataset)]


def _make(plan: str, *, folder: str, config: str) -> str:
    """One task."""
    settings = CorpusConfig.model_validate_json(config)
    return make_shard(ShardPlan.model_validate_json(plan), Path(folder), settings, Espeak()).model_dump_json()


def _refuse_too_many(rejects: Sequence[Reject], items: int, kind: Kind, config: CorpusConfig) -> None:
    if len(rejects) <= config.max_reject_share * items and len(rejects) < items:
        return
    counts = ", ".join(
        f"{count} {reason}" for reason, count in Counter(r.reason for r in rejects).most_common()
    )
    first = f"{rejects[0].id} ({rejects[0].detail})"
    raise CorpusError(
        f"{len(rejects)} of {items} {kind} were rejected: {counts}; max_reject_share allows "
        f"{config.max_reject_share:.0%}. Mend or remove them, first {first}, or raise max_reject_share"
    )


def _manifest(
    done: Sequence[ShardOutcome], kind: Kind, config: CorpusConfig, parents: dict[str, str]
) -> Manifest:
    samples = {split: [o.num_samples for o in done if o.split == split] for split in SPLITS}
    return Manifest(
        kind=kind,
        config_sha256=config.recipe_sha256(),
        parents=parents,
        shards=tuple(outcome.shard for outcome in done if outcome.shard is not None),
        hours={split: hours(samples[split], config.sample_rate_hz) for split in SPLITS},
        rejects=dict(Counter(reject.reason for outcome in done for reject in outcome.rejects)),
    )
