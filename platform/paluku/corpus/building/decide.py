"""Phase three of a build, on the driver: which rows are duplicates, which split they belong to, which shard.

It reads the parts' light columns only, part after part in the order of the listing, so what it decides
depends on the listing and the settings and on nothing else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from paluku.config import Config
from paluku.corpus.building.parts import AUDIO_BYTES
from paluku.corpus.preparation.fingerprint import Duplicates
from paluku.corpus.preparation.quality import Reject
from paluku.corpus.shards import SPLITS, Split
from paluku.corpus.splits import CorpusShares, split_of_speaker
from paluku.corpus.storage import Place
from paluku.errors import CorpusError

LIGHT = ("id", "num_samples", "sample_rate_hz", "language", "speaker", "source", "licence", "fingerprint")
BREAKDOWN = ("language", "source", "split", "speaker")
DUPLICATE = "duplicate"


class ShardPlan(Config):
    """One shard to be made: from each part's file in turn, the rows of these numbers."""

    split: Split
    number: int
    picks: tuple[tuple[str, tuple[int, ...]], ...]


class Decision(Config):
    """What becomes of all rows."""

    shards: tuple[ShardPlan, ...]
    duplicates: tuple[Reject, ...]
    hours: dict[Split, float]
    breakdown: dict[str, dict[str, float]] = Field(default_factory=dict)
    licences: dict[str, str] = Field(default_factory=dict)


def decide(
    parts: Sequence[str], work: Place, shares: CorpusShares, seed: int, shard_bytes: float
) -> Decision:
    """Look at every row of the parts, which are files below `work`, in their order.

    The first of several recordings of the same sound (`fingerprint.Duplicates`) stays. A speaker is in one
    split only. A shard is full with the row whose audio takes it to `shard_bytes`.

    Raises:
        CorpusError: when a part is damaged.
    """
    known, duplicates = Duplicates(), list[Reject]()
    filling: dict[Split, _Filling] = {split: _Filling(split, shard_bytes) for split in SPLITS}
    sums = _Sums()
    for part, number, row in _light_rows(parts, work):
        if (kept := known.add(row["fingerprint"], row["id"])) is not None:
            duplicates.append(_duplicate(row, kept))
            continue
        split = split_of_speaker(row["source"], row["speaker"], shares, seed)
        filling[split].add(part, number, row[AUDIO_BYTES])
        sums.add(row | {"split": split})
    hours = sums.hours
    shards = (shard for split in SPLITS for shard in filling[split].shards())
    return Decision(
        shards=tuple(shards),
        duplicates=tuple(duplicates),
        hours={split: hours["split"].get(split, 0.0) for split in SPLITS},
        breakdown={name: dict(sorted(found.items())) for name, found in hours.items()},
        licences={source: ", ".join(sorted(found)) for source, found in sorted(sums.licences.items())},
    )


class _Filling:
    """The shards of one split, filled in the order of the listing."""

    def __init__(self, split: Split, shard_bytes: float) -> None:
        self._split: Split = split
        self._shard_bytes = shard_bytes
        self._full: list[dict[str, list[int]]] = []
        self._picks: dict[str, list[int]] = defaultdict(list)
        self._bytes = 0

    def add(self, part: str, number: int, num_bytes: int) -> None:
        self._picks[part].append(number)
        self._bytes += num_bytes
        if self._bytes >= self._shard_bytes:
            self._full.append(self._picks)
            self._picks, self._bytes = defaultdict(list), 0

    def shards(self) -> Iterator[ShardPlan]:
        for number, picks in enumerate([*self._full, self._picks] if self._picks else self._full):
            rows = tuple((part, tuple(numbers)) for part, numbers in picks.items())
            yield ShardPlan(split=self._split, number=number, picks=rows)


class _Sums:
    """Hours by language, source, split and speaker; licences by source."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[str, float]] = {name: defaultdict(float) for name in BREAKDOWN}
        self.licences: dict[str, set[str]] = defaultdict(set)

    def add(self, row: dict[str, Any]) -> None:
        seconds = row["num_samples"] / row["sample_rate_hz"]
        for name in BREAKDOWN:
            # Two corpora may both have a speaker 1.
            key = f"{row['source']}/{row['speaker']}" if name == "speaker" else row[name]
            self._seconds[name][key] += seconds
        self.licences[row["source"]].add(row["licence"])

    @property
    def hours(self) -> dict[str, dict[str, float]]:
        return {
            name: {key: round(seconds / 3600, 6) for key, seconds in found.items()}
            for name, found in self._seconds.items()
        }


def _light_rows(parts: Iterable[str], work: Place) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for part in parts:
        for number, row in enumerate(_light_table(part, work).to_pylist()):
            yield part, number, row


def _light_table(name: str, work: Place) -> pa.Table:
    try:
        with work.open_input(name) as source, pq.ParquetFile(source) as file:
            return file.read(columns=[*LIGHT, AUDIO_BYTES])
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(
            f"{work.named(name)} is damaged ({error}); remove {work} and build again"
        ) from error


def _duplicate(row: dict[str, Any], kept: str) -> Reject:
    return Reject(
        id=row["id"],
        source=row["source"],
        reason=DUPLICATE,
        detail=f"sounds like {kept}, which is kept",
        duration_s=row["num_samples"] / row["sample_rate_hz"],
    )


def copy_shard(plan: ShardPlan, work: Place) -> Iterable[dict[str, Any]]:
    """Phase four: the rows of a shard, one row group of a part in memory.

    Raises:
        CorpusError: when a part is damaged or missing.
    """
    for name, numbers in plan.picks:
        try:
            with work.open_input(name) as source, pq.ParquetFile(source) as file:
                for row in _picked(file, numbers):
                    yield row | {"split": plan.split}
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(
                f"{work.named(name)} is damaged ({error}); remove {work} and build again"
            ) from error


def _picked(file: pq.ParquetFile, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
    wanted = set(numbers)
    first = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if inside := sorted(wanted.intersection(range(first, first + rows))):
            table = file.read_row_group(group)
            yield from table.take([number - first for number in inside]).to_pylist()
        first += rows
