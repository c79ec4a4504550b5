"""What a frozen speech encoder hears in a corpus of utterances, with Ray Data: one task a shard, twice.

    moments     hear a sample of the train split, add up what a covariance needs   `_work/parts/`
    basis       principal components, whitened                                      `OUT/basis.safetensors`
    features    hear every utterance, in that basis                                 `OUT/*.parquet`

A task is a pure function of its plan, and a finished one is remembered (`cluster.shard_tasks`): any number
of workers, killed at any moment and started again, leave the same bytes. The manifest comes last.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from paluku.cluster.progress import Measure
from paluku.cluster.shard_tasks import Running, run_resumably
from paluku.config import Config
from paluku.corpus.building.ownership import Ownership, owning, refuse_lost
from paluku.corpus.building.standing import (
    HASH_DIGITS,
    OUTCOMES,
    WORK,
    WorkKey,
    begin_work,
    finished,
    is_there,
    refuse_changed,
    sweep,
)
from paluku.corpus.shard_rows import Rows, sources
from paluku.corpus.shards import (
    MANIFEST,
    SPLITS,
    Manifest,
    hours,
    read_manifest,
    shard_name,
    write_manifest,
)
from paluku.corpus.storage import AnyPlace, Place
from paluku.corpus.teacher.basis import Basis, Moments
from paluku.corpus.teacher.encoder import FRAME_RATE_HZ, SpeechEncoder, teacher_digest, whisper
from paluku.corpus.teacher.extraction import (
    BASIS,
    FeaturesOutcome,
    FeaturesPlan,
    MomentsOutcome,
    MomentsPlan,
    count_moments,
    write_features,
)
from paluku.errors import ConfigError, CorpusError
from paluku.log import logger

log = logger("teacher")


class TeacherConfig(Config):
    """Settings of `jobs/extract_teacher.py`. On a cluster every node must reach both folders."""

    corpus: AnyPlace  # a folder of utterances
    out: AnyPlace
    dims: int = Field(default=64, ge=1)
    sample_utterances: int = Field(
        default=1000, ge=1
    )  # of the train split, about: what the basis is fitted to
    seed: int = Field(default=0, ge=0)  # draws that sample
    cpus_per_task: float = Field(default=1.0, gt=0)
    overwrite: bool = False

    @property
    def recipe(self) -> dict[str, Any]:
        """What the features depend on, beside the corpus and the teacher."""
        return self.model_dump(mode="json", include={"dims", "sample_utterances", "seed"})


class _Extraction(NamedTuple):
    """What every step of one run needs."""

    config: TeacherConfig
    utterances: Manifest
    key: WorkKey
    parents: dict[str, str]
    out: Place
    open_encoder: Callable[[], SpeechEncoder]
    run: Running


def extract(
    config: TeacherConfig,
    open_encoder: Callable[[], SpeechEncoder] = whisper,
    run: Running = run_resumably,
) -> Manifest:
    """Extract the features, or continue, or keep them when they are there already.

    Raises:
        CorpusError: when the utterances are missing or damaged, too few to fit the basis to, or `out` holds
            something else and `overwrite` is not set.
        CheckpointError: when the encoder's weights are not installed.
        ServiceError: when what runs them is not.
        StorageError: when a place is full, read-only or out of reach; what is done stays done.
    """
    extraction = _opened(config, open_encoder, run)
    out = extraction.out
    manifest = finished(
        out,
        "features",
        extraction.key.recipe,
        extraction.parents,
        made=("basis",),
        overwrite=config.overwrite,
    )
    if manifest is not None and out.exists(BASIS):
        log.info("out=%s is whole and of these settings: kept as it is", out)
        return manifest
    with owning(out / WORK) as ownership:
        begin_work(out, extraction.key)
        out.delete(MANIFEST)
        return _extract(extraction, ownership)


def _opened(config: TeacherConfig, open_encoder: Callable[[], SpeechEncoder], run: Running) -> _Extraction:
    utterances = read_manifest(config.corpus, "utterances")
    if not utterances.rows("train"):
        raise CorpusError(f"{config.corpus} has no rows in split 'train'; the basis is fitted to that split")
    encoder = open_encoder()  # here too: a task that cannot start comes late
    if config.dims > encoder.width:
        raise ConfigError(
            f"dims is {config.dims}, the teacher has {encoder.width}; ask for no more than these"
        )
    parents = {"utterances": utterances.hash, "teacher": teacher_digest(encoder)}
    recipe = hashlib.sha256(f"{config.recipe} {parents['teacher']}".encode()).hexdigest()
    key = WorkKey(recipe=recipe, listing=utterances.hash, part_minutes=0)
    return _Extraction(config, utterances, key, parents, Place.of(config.out), open_encoder, run)


def _extract(extraction: _Extraction, ownership: Ownership) -> Manifest:
    config, out = extraction.config, extraction.out
    shards = sources(config.corpus, extraction.utterances)
    counted = _count(extraction, shards, ownership.id)
    basis = Basis.fitted(_added(counted, out), config.dims)
    data = basis.to_bytes()
    out.write_bytes(BASIS, data)
    basis_sha256 = hashlib.sha256(data).hexdigest()
    done = _write(extraction, shards, basis_sha256, ownership.id)
    ownership.refuse_lost()
    refuse_changed(out, [outcome.shard for outcome in done])
    manifest = Manifest(
        kind="features",
        config_sha256=extraction.key.recipe,
        recipe=config.recipe,
        parents=extraction.parents | {"basis": basis_sha256[:HASH_DIGITS]},
        shards=tuple(outcome.shard for outcome in done),
        hours={split: _hours(done, split) for split in SPLITS},
        breakdown={"variance": {"kept": round(float(basis.kept_share.sum()), 4)}},
        counts={
            "basis_utterances": sum(outcome.utterances for outcome in counted),
            "basis_frames": sum(outcome.frames for outcome in counted),
        },
    )
    write_manifest(out, manifest)
    ownership.remove_work()
    return manifest


def _count(extraction: _Extraction, shards: Sequence[Rows], owner: str) -> list[MomentsOutcome]:
    config = extraction.config
    share = min(config.sample_utterances / extraction.utterances.rows("train"), 1.0)
    train = [shard for shard in shards if shard.split == "train"]
    plans = [MomentsPlan(source=shard, share=share, seed=config.seed) for shard in train]
    stamps = extraction.out.stamps(f"{WORK}/parts")

    def holds(text: str) -> bool:
        found = MomentsOutcome.model_validate_json(text)
        return is_there(stamps, f"{WORK}/{found.path}", found.num_bytes)

    done = _run(extraction, plans, _count_task, owner, "moments", holds)
    return [MomentsOutcome.model_validate_json(text) for text in done]


def _write(
    extraction: _Extraction, shards: Sequence[Rows], basis_sha256: str, owner: str
) -> list[FeaturesOutcome]:
    plans = [FeaturesPlan(source=shard, basis_sha256=basis_sha256) for shard in shards]
    sweep(
        extraction.out, keep={shard_name(shard.split, shard.number) for shard in shards}
    )  # of what is replaced
    stamps = extraction.out.stamps()

    def holds(text: str) -> bool:
        shard = FeaturesOutcome.model_validate_json(text).shard
        return is_there(stamps, shard.path, shard.num_bytes)

    done = _run(extraction, plans, _write_task, owner, "features", holds)
    return [FeaturesOutcome.model_validate_json(text) for text in done]


def _run(
    extraction: _Extraction,
    plans: Sequence[Config],
    task: Callable[..., str],
    owner: str,
    label: str,
    holds: Callable[[str], bool],
) -> list[str]:
    make = functools.partial(
        task, out=extraction.out.where, open_encoder=extraction.open_encoder, owner=owner
    )
    # Outcomes of one key are never taken for another's.
    outcomes = extraction.out / WORK / OUTCOMES / extraction.key.digest()[:HASH_DIGITS]
    return extraction.run(
        [plan.model_dump_json() for plan in plans],
        make,
        outcomes.where,
        label,
        cpus_per_task=extraction.config.cpus_per_task,
        measure=_measure,
        holds=holds,
    )


def _count_task(text: str, *, out: str, open_encoder: Callable[[], SpeechEncoder], owner: str) -> str:
    place = Place.of(out)
    refuse_lost(place / WORK, owner)
    plan = MomentsPlan.model_validate_json(text)
    return count_moments(plan, place, open_encoder()).model_dump_json()


def _write_task(text: str, *, out: str, open_encoder: Callable[[], SpeechEncoder], owner: str) -> str:
    place = Place.of(out)
    refuse_lost(place / WORK, owner)
    plan = FeaturesPlan.model_validate_json(text)
    return write_features(plan, place, open_encoder()).model_dump_json()


def _measure(outcome: str) -> Measure:
    return Measure(audio_s=json.loads(outcome)["frames"] / FRAME_RATE_HZ)


def _added(counted: Sequence[MomentsOutcome], out: Place) -> Moments:
    """In the order of the shards: floating-point sums depend on it."""
    parts = [Moments.from_bytes((out / WORK).read_bytes(outcome.path)) for outcome in counted]
    return functools.reduce(Moments.__add__, parts)


def _hours(done: Sequence[FeaturesOutcome], split: str) -> float:
    return hours((outcome.frames for outcome in done if outcome.shard.split == split), FRAME_RATE_HZ)
