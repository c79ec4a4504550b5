"""Building dialogues with Ray Data: one row is the plan of a shard, one task speaks and writes it.

A shard is a pure function of its plan, the cast and the rendering, and a finished one is remembered
(`cluster.shard_tasks`): any number of workers, killed at any moment and started again, leave the same
bytes. The manifest comes last.
"""

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from paluku.cluster.progress import Measure
from paluku.cluster.shard_tasks import remembered, run_resumably
from paluku.config import load
from paluku.corpus.building.ownership import Ownership, owning, refuse_lost
from paluku.corpus.building.rejects import refuse_too_many, write_rejects
from paluku.corpus.building.standing import (
    HASH_DIGITS,
    LISTING,
    OUTCOMES,
    WORK,
    WorkKey,
    begin_work,
    finished,
    is_there,
    is_whole,
    refuse_changed,
    same_manifest,
    sweep,
    work_key,
)
from paluku.corpus.dialogues.noises import noise_files
from paluku.corpus.dialogues.plans import DialoguesConfig, ShardPlan, plan_shards, read_texts
from paluku.corpus.dialogues.shards import Making, ShardOutcome, make_shard
from paluku.corpus.shards import (
    MANIFEST,
    SPLITS,
    Manifest,
    hours,
    write_manifest,
)
from paluku.corpus.storage import Place
from paluku.corpus.voices.cast import Cast, CastConfig
from paluku.errors import CorpusError
from paluku.log import logger

ADVICE = "First {first}: mend the text or the cast, or raise max_reject_share"

log = logger("dialogues")


class BuildPlan(NamedTuple):
    """What a build will do."""

    shards: tuple[ShardPlan, ...]
    cast: CastConfig
    parents: dict[str, str]  # hashes of the voices and of everything that is to be said
    key: WorkKey
    standing: str  # what `out` holds, for a person
    shards_done: int


def plan(config: DialoguesConfig) -> BuildPlan:
    """Read the texts, cast the voices, and look at the place; nothing is spoken or written.

    Raises:
        ConfigError: when the cast does not fit.
        CorpusError: when the texts are missing or do not fit, or a recording cannot be read.
        ServiceError: when an engine of the cast is not installed.
        StorageError: when the place cannot be reached.
    """
    cast = Cast(load(CastConfig, config.cast))
    shards = tuple(plan_shards(config, read_texts(config), cast))
    parents = {LISTING: _digest(_texts(shards)), "cast": cast.digest()[:HASH_DIGITS]} | _recordings(
        config, shards
    )
    key = WorkKey(recipe=config.recipe_sha256(), listing=_digest(parents.values()), part_minutes=0)
    out = Place.of(config.out)
    is_continued = work_key(out) == key
    done = len(remembered(_texts(shards), outcomes_of(out, key), _holds(out))) if is_continued else 0
    return BuildPlan(shards, cast.config, parents, key, _standing(out, key, parents, config), done)


def build(config: DialoguesConfig) -> Manifest:
    """Build the dialogues, or continue, or keep them when they are there already.

    Raises:
        ConfigError: when the cast does not fit.
        CorpusError: when the texts are missing or do not fit, too many dialogues were rejected, or `out`
            holds another corpus and `overwrite` is not set.
        ServiceError: when an engine of the cast is not installed.
        StorageError: when the place is full, read-only or out of reach; what is done stays done.
    """
    planned = plan(config)
    out = Place.of(config.out)
    log.info("out=%s %s", out, planned.standing)
    manifest = finished(out, "dialogues", planned.key.recipe, planned.parents, overwrite=config.overwrite)
    if manifest is not None:
        return manifest
    with owning(out / WORK) as ownership:
        begin_work(out, planned.key)
        return _build(config, planned, out, ownership)


def _build(config: DialoguesConfig, planned: BuildPlan, out: Place, ownership: Ownership) -> Manifest:
    done = _run(config, planned, out, ownership.id)
    ownership.refuse_lost()
    refuse_changed(out, [outcome.shard for outcome in done if outcome.shard is not None])
    rejects = [reject for outcome in done for reject in outcome.rejects]
    items = sum(len(shard.dialogues) + len(shard.conversations) for shard in planned.shards)
    refuse_too_many(rejects, items, "dialogues", config.max_reject_share, ADVICE)
    write_rejects(out, rejects)
    manifest = _manifest(config, planned, done)
    write_manifest(out, manifest)
    ownership.remove_work()
    return manifest


def show_plan(config: DialoguesConfig, planned: BuildPlan) -> None:
    """What would be built, as a table."""
    table = Table(title="dialogues")
    for heading in ("split", "dialogues", "exchanges", "recordings", "shards", "user voices"):
        table.add_column(heading, justify="left" if heading in ("split", "user voices") else "right")
    for split in SPLITS:
        shards = [shard for shard in planned.shards if shard.split == split]
        members = [dialogue for shard in shards for dialogue in shard.dialogues]
        exchanges = sum(len(dialogue.exchanges) for dialogue in members)
        users = sorted({dialogue.user_voice for dialogue in members})
        recordings = sum(len(shard.conversations) for shard in shards)
        counts = (len(members), exchanges, recordings, len(shards))
        table.add_row(split, *map(str, counts), ", ".join(users))
    console = Console(markup=False, emoji=False)  # names come from data
    console.print(table)
    console.print(f"out: {Place.of(config.out)} ({planned.standing})")
    console.print(f"shards: {len(planned.shards)}, of which done: {planned.shards_done}")


def outcomes_of(out: Place, key: WorkKey) -> Place:
    """Where tasks of this key are remembered: a late one of another is not taken for one of these."""
    return out / WORK / OUTCOMES / key.digest()[:HASH_DIGITS]


def _holds(out: Place) -> Callable[[str], bool]:
    """Whether the shard that an outcome tells of is there."""
    stamps = out.stamps()

    def holds(text: str) -> bool:
        shard = ShardOutcome.model_validate_json(text).shard
        return shard is None or is_there(stamps, shard.path, shard.num_bytes)

    return holds


def _run(config: DialoguesConfig, planned: BuildPlan, out: Place, owner: str) -> list[ShardOutcome]:
    plans, outcomes, holds = _texts(planned.shards), outcomes_of(out, planned.key), _holds(out)
    known = (ShardOutcome.model_validate_json(text) for text in remembered(plans, outcomes, holds).values())
    out.delete(MANIFEST)  # of what is replaced: from here on the folder is not whole
    sweep(out, keep={outcome.shard.path for outcome in known if outcome.shard is not None})
    making = Making(rendering=config.rendering, conversations=config.conversations, seed=config.seed)
    cast = planned.cast.model_dump_json()
    make = functools.partial(_make, out=out.where, cast=cast, making=making.model_dump_json(), owner=owner)
    cpus = config.cpus_per_task
    done = run_resumably(
        plans, make, outcomes.where, "dialogues", cpus_per_task=cpus, measure=_measure, holds=holds
    )
    return [ShardOutcome.model_validate_json(outcome) for outcome in done]


def _make(text: str, *, out: str, cast: str, making: str, owner: str) -> str:
    """One task."""
    shard, settings = ShardPlan.model_validate_json(text), Making.model_validate_json(making)
    work = Place.of(out) / WORK
    refuse_lost(work, owner)
    outcome = make_shard(shard, out, _cast(cast), settings)
    refuse_lost(work, owner)
    return outcome.model_dump_json()


@functools.lru_cache(maxsize=1)
def _cast(config: str) -> Cast:
    """One a worker process: engines are started, and weights read, once."""
    return Cast(CastConfig.model_validate_json(config))


def _measure(outcome: str) -> Measure:
    made = ShardOutcome.model_validate_json(outcome)
    return Measure(audio_s=made.audio_s, rejects=len(made.rejects))


def _texts(shards: Iterable[ShardPlan]) -> list[str]:
    return [shard.model_dump_json() for shard in shards]


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:HASH_DIGITS]


def _recordings(config: DialoguesConfig, shards: Sequence[ShardPlan]) -> dict[str, str]:
    """Names and content of the recordings of noise and of conversations."""
    found: dict[str, str] = {}
    folder = config.rendering.augmentation.noise_folder
    if folder is not None:
        names = [path.relative_to(folder).as_posix() for path in noise_files(folder)]
        found["noises"] = _files_digest(folder, names)
    if config.conversations is not None:
        names = [conversation.path for shard in shards for conversation in shard.conversations]
        found["conversations"] = _files_digest(config.conversations.folder, names)
    return found


def _files_digest(folder: Path, names: Iterable[str]) -> str:
    return _digest(f"{name} {_content(folder / name)}" for name in names)


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error}); mend or remove it") from error


def _standing(out: Place, key: WorkKey, parents: dict[str, str], config: DialoguesConfig) -> str:
    if out.exists(MANIFEST):
        if (manifest := same_manifest(out, "dialogues", key.recipe, parents)) is not None:
            return (
                "is whole and of these settings: kept as it is"
                if is_whole(out, manifest.shards)
                else "lacks shards that its manifest names: made again"
            )
        return "holds another corpus" + (
            ": it is replaced" if config.overwrite else ": choose another out, or set overwrite=true"
        )
    found = work_key(out)
    if found is None:
        return "is new"
    return "is unfinished: continued" if found == key else "is unfinished, of other settings: begun anew"


def _manifest(config: DialoguesConfig, planned: BuildPlan, done: Sequence[ShardOutcome]) -> Manifest:
    rate_hz = config.rendering.sample_rate_hz
    samples, counts = _summed(o.samples for o in done), _summed(o.counts for o in done)
    licences: dict[str, set[str]] = defaultdict(set)
    for outcome in done:
        for source, found in outcome.licences.items():
            licences[source].update(found)
    return Manifest(
        kind="dialogues",
        config_sha256=planned.key.recipe,
        recipe=config.recipe,
        parents=planned.parents,
        shards=tuple(outcome.shard for outcome in done if outcome.shard is not None),
        hours={split: hours((o.num_samples for o in done if o.split == split), rate_hz) for split in SPLITS},
        breakdown={
            **{
                name: {key: hours([n], rate_hz) for key, n in found.items()}
                for name, found in samples.items()
            },
            **{f"{name}_count": dict(found) for name, found in counts.items()},
        },
        licences={source: ", ".join(sorted(found)) for source, found in sorted(licences.items())},
        rejects=dict(Counter(reject.reason for outcome in done for reject in outcome.rejects)),
    )


def _summed(tables: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """Tables of tables added up, keys in order."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for table in tables:
        for name, found in table.items():
            sums[name].update(found)
    return {name: dict(sorted(found.items())) for name, found in sums.items()}
