"""Building a corpus with Ray Data, in phases that can each be continued after a `kill -9`.

    list     the sources' utterances, cut into parts           driver, metadata only
    parts    decode and prepare, a task a part                 `_work/parts/`
    decide   duplicates, splits, which row in which shard      driver, light columns only
    shards   copy the rows, a task a shard                     `OUT/*.parquet`
    finish   `rejects.parquet`, `manifest.json`, then `_work` goes

Nothing but plans and outcomes travels. A part and a shard are pure functions of their plans and
everything is put together in the order of the listing, so any number of workers, killed at any moment
and started again, leave the same bytes.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from paluku.cluster.progress import Measure
from paluku.cluster.shard_tasks import remembered, run_resumably
from paluku.corpus.building import standing as folder
from paluku.corpus.building.decide import Decision, ShardPlan, copy_shard, decide
from paluku.corpus.building.listing import Listing, PartPlan, list_sources
from paluku.corpus.building.ownership import Ownership, owning, refuse_lost
from paluku.corpus.building.parts import PARTS, PartOutcome, make_part
from paluku.corpus.building.preparer import preparer
from paluku.corpus.building.rejects import refuse_too_many, write_rejects
from paluku.corpus.building.standing import HASH_DIGITS, LISTING, OUTCOMES, WORK, Standing
from paluku.corpus.config import CorpusConfig
from paluku.corpus.download import NotFetched
from paluku.corpus.preparation.quality import Reject
from paluku.corpus.shards import (
    MANIFEST,
    Manifest,
    ShardInfo,
    write_manifest,
    write_shard,
)
from paluku.corpus.sources.config import SourceConfig, open_source
from paluku.corpus.sources.port import Source
from paluku.corpus.sources.tree import CorpusFolder
from paluku.corpus.storage import Place
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError
from paluku.log import logger

ADVICE = "Mend or remove them, first {first}, or raise max_reject_share"
MB = 1e6
SECONDS_PER_MINUTE = 60

log = logger("corpus")


class BuildPlan(NamedTuple):
    """What a build would do."""

    listing: Listing
    standing: Standing | None  # not known while a source is to be fetched
    parts_done: int
    to_fetch: tuple[tuple[str, str], ...] = ()  # sources that are not (all) there, and what a build gets


class _Present:
    """A source as far as it is there; what a build would fetch or unpack is noted in `to_fetch`."""

    def __init__(self, config: SourceConfig, to_fetch: list[tuple[str, str]]) -> None:
        looking = isinstance(config, CorpusFolder)
        self._inner = open_source(config.model_copy(update={"only_look": True}) if looking else config)
        self._to_fetch = to_fetch

    @property
    def name(self) -> str:
        """The inner source's."""
        return self._inner.name

    @property
    def licence(self) -> str:
        """The inner source's."""
        return self._inner.licence

    def iterate(self) -> Iterator[Utterance]:
        """What can be listed."""
        try:
            yield from self._inner.iterate()
        except NotFetched as error:
            self._to_fetch.append((self.name, str(error)))


def plan(config: CorpusConfig) -> BuildPlan:
    """List the sources and look at the place; nothing is written, fetched or unpacked.

    Raises:
        CorpusError: when a source is missing or broken.
        StorageError: when the place cannot be reached.
    """
    out, to_fetch = Place.of(config.out), list[tuple[str, str]]()
    sources = [_Present(source, to_fetch) for source in config.all_sources]
    try:
        listing = _listed(config, sources)
    except CorpusError:
        if len(to_fetch) < len(sources):
            raise
        listing = Listing(sha256="", parts=())  # every source was gone through: there is nothing yet
    if to_fetch:
        return BuildPlan(listing, None, 0, tuple(to_fetch))
    key = folder.key_of(config, listing)
    done = remembered(_texts(listing.parts), out / WORK / OUTCOMES) if folder.work_key(out) == key else {}
    return BuildPlan(listing, folder.standing(out, key), len(done))


def build(config: CorpusConfig) -> Manifest:
    """Build the corpus, or continue it, or keep it when it is there already.

    Raises:
        CorpusError: when a source is missing or broken, too many items were rejected, another build is at
            work in `out`, or it holds another corpus and `overwrite` is not set.
        StorageError: when the place is full, read-only or out of reach; what is done stays done.
    """
    out = Place.of(config.out)
    if out.exists(MANIFEST):
        found = folder.standing(out, folder.key_of(config, _list(config)))
        if found is Standing.DONE:
            log.info("out=%s is whole and of these settings: kept as it is", out)
            return folder.kept(out)
        if found is Standing.OTHER and not config.overwrite:
            folder.refuse_other(out)
    with owning(out / WORK) as ownership:
        listing = _list(config, out / WORK)
        key = folder.key_of(config, listing)
        _say(folder.standing(out, key), out)
        ownership.refuse_lost()
        work = folder.begin_work(out, key)
        return _build(config, listing, out, work, ownership)


def _build(config: CorpusConfig, listing: Listing, out: Place, work: Place, ownership: Ownership) -> Manifest:
    parts = _make_parts(config, listing, work, ownership.id)
    rejects = [reject for part in parts for reject in part.rejects]
    items = sum(part.rows for part in parts) + len(rejects)
    refuse_too_many(rejects, items, "utterances", config.max_reject_share, ADVICE)
    decision = decide([part.path for part in parts], work, config.shares, config.seed, config.shard_mb * MB)
    rejects += decision.duplicates
    ownership.refuse_lost()
    shards = _make_shards(config, decision, out, work, ownership.id)
    ownership.refuse_lost()
    folder.refuse_changed(out, shards)
    write_rejects(out, rejects)
    counts = sum((Counter(part.counts) for part in parts), Counter[str]())
    manifest = _manifest(config, listing, decision, shards, rejects, dict(sorted(counts.items())))
    write_manifest(out, manifest)
    ownership.remove_work()
    return manifest


def _list(config: CorpusConfig, work: Place | None = None) -> Listing:
    return _listed(config, [open_source(source) for source in config.all_sources], work)


def _listed(config: CorpusConfig, sources: Iterable[Source], work: Place | None = None) -> Listing:
    part_s = config.part_minutes * SECONDS_PER_MINUTE
    return list_sources(sources, part_s, work, folder.maker_of(config))


def _say(found: Standing, out: Place) -> None:
    if found is Standing.UNFINISHED:
        if out.exists(MANIFEST):
            log.warning("out=%s lacks shards that its manifest names: made again", out)
        else:
            log.info("out=%s holds an unfinished build of these settings: continued", out)
    elif found is Standing.OUTDATED:
        log.warning("out=%s holds an unfinished build of other settings: begun anew", out)
    elif found is Standing.OTHER:
        log.warning("out=%s holds another corpus: it is replaced once all parts are made", out)


def _texts(plans: Iterable[PartPlan | ShardPlan]) -> list[str]:
    return [plan.model_dump_json() for plan in plans]


def _make_parts(config: CorpusConfig, listing: Listing, work: Place, owner: str) -> list[PartOutcome]:
    stamps = work.stamps(PARTS)

    def holds(outcome: str) -> bool:
        part = PartOutcome.model_validate_json(outcome)
        return folder.is_there(stamps, part.path, part.num_bytes)

    settings = config.located().model_dump_json()
    make = functools.partial(_part, work=work.where, config=settings, owner=owner)
    outcomes = _run(config, "parts", listing.parts, make, work, holds, _part_measure)
    return [PartOutcome.model_validate_json(outcome) for outcome in outcomes]


def _make_shards(
    config: CorpusConfig, decision: Decision, out: Place, work: Place, owner: str
) -> list[ShardInfo]:
    stamps = out.stamps()

    def holds(outcome: str) -> bool:
        shard = ShardInfo.model_validate_json(outcome)
        return folder.is_there(stamps, shard.path, shard.num_bytes)

    known = remembered(_texts(decision.shards), work / OUTCOMES, holds).values()
    out.delete(MANIFEST)  # of what is replaced: from here on the folder is not whole
    folder.sweep(out, keep={ShardInfo.model_validate_json(outcome).path for outcome in known})
    make = functools.partial(_shard, work=work.where, out=out.where, owner=owner)
    outcomes = _run(config, "shards", decision.shards, make, work, holds)
    return [ShardInfo.model_validate_json(outcome) for outcome in outcomes]


def _run(
    config: CorpusConfig,
    label: str,
    plans: Sequence[PartPlan | ShardPlan],
    make: Callable[[str], str],
    work: Place,
    holds: Callable[[str], bool],
    measure: Callable[[str], Measure] | None = None,
) -> list[str]:
    remember, cpus = (work / OUTCOMES).where, config.cpus_per_task
    return run_resumably(
        _texts(plans), make, remember, label, cpus_per_task=cpus, measure=measure, holds=holds
    )


def _part(text: str, *, work: str, config: str, owner: str) -> str:
    """One task."""
    part, place = PartPlan.model_validate_json(text), Place.of(work)
    refuse_lost(place, owner)
    outcome = make_part(part, place, _preparer(config))
    refuse_lost(place, owner)
    return outcome.model_dump_json()


@functools.lru_cache(maxsize=1)
def _preparer(config: str) -> Callable[[Utterance], Iterator[dict[str, Any] | Reject]]:
    """One a worker process: the models in it are loaded once."""
    settings = CorpusConfig.model_validate_json(config)
    return preparer(settings.preparation, settings.all_sources)


def _shard(text: str, *, work: str, out: str, owner: str) -> str:
    """One task."""
    shard = ShardPlan.model_validate_json(text)
    rows = _while_owned(copy_shard(shard, Place.of(work)), Place.of(work), owner)
    return write_shard(out, "utterances", shard.split, shard.number, rows).model_dump_json()


def _while_owned(rows: Iterable[dict[str, Any]], work: Place, owner: str) -> Iterator[dict[str, Any]]:
    """The rows; a shard's file gets its name after the last, and that name may be another build's by then."""
    refuse_lost(work, owner)
    yield from rows
    refuse_lost(work, owner)


def _part_measure(outcome: str) -> Measure:
    part = PartOutcome.model_validate_json(outcome)
    return Measure(audio_s=part.audio_s, rejects=len(part.rejects))


def _manifest(
    config: CorpusConfig,
    listing: Listing,
    decision: Decision,
    shards: Sequence[ShardInfo],
    rejects: Sequence[Reject],
    counts: dict[str, int],
) -> Manifest:
    return Manifest(
        kind="utterances",
        config_sha256=config.recipe_sha256(),
        recipe=config.recipe,
        parents={LISTING: listing.sha256[:HASH_DIGITS]},
        shards=tuple(shards),
        hours=decision.hours,
        breakdown=decision.breakdown,
        licences=decision.licences,
        rejects=dict(Counter(reject.reason for reject in rejects)),
        counts=counts,
    )
