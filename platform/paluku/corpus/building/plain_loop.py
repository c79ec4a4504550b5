"""Building a corpus in one process, one recording after another: what Ray Data is measured against.

The same listing, decoding, preparation, duplicates, splits and shards in the same order, so the shards
are the same to the byte. It has no phases: killed, it begins again, and more cores do not help it.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from paluku.corpus.building.parts import prepared
from paluku.corpus.building.preparer import preparer
from paluku.corpus.config import CorpusConfig
from paluku.corpus.preparation.fingerprint import Duplicates
from paluku.corpus.preparation.quality import Reject
from paluku.corpus.shards import SPLITS, ShardInfo, Split, write_shard
from paluku.corpus.sources.config import open_source
from paluku.corpus.splits import split_of_speaker

BYTES_PER_MB = 1e6


class Built(NamedTuple):
    """What the loop has written."""

    shards: tuple[ShardInfo, ...]  # in a manifest's order
    rejects: Counter[str]  # by reason, duplicates among them


class _Shards:
    """Rows of one split on their way into shards; those of the unfinished one wait in memory."""

    def __init__(self, config: CorpusConfig, split: Split) -> None:
        self._out, self._shard_bytes = config.out, config.shard_mb * BYTES_PER_MB
        self._split: Split = split
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0
        self.written: list[ShardInfo] = []

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row | {"split": self._split})
        self._bytes += len(row["audio"])
        if self._bytes >= self._shard_bytes:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            number = len(self.written)
            self.written.append(write_shard(self._out, "utterances", self._split, number, self._waiting))
            self._waiting, self._bytes = [], 0


def build_plainly(config: CorpusConfig) -> Built:
    """List, decode, prepare and write, in order; `out` gets shards and no manifest.

    Raises:
        CorpusError: when a source is missing or broken.
        StorageError: when the place is full or read-only.
    """
    shards: dict[Split, _Shards] = {split: _Shards(config, split) for split in SPLITS}
    rejects: Counter[str] = Counter()
    known = Duplicates()
    for found in _prepared(config):
        if isinstance(found, Reject):
            rejects[found.reason] += 1
        elif known.add(found["fingerprint"], found["id"]) is not None:
            rejects["duplicate"] += 1
        else:
            split = split_of_speaker(found["source"], found["speaker"], config.shares, config.seed)
            shards[split].add(found)
    for unfinished in shards.values():
        unfinished.flush()
    return Built(tuple(info for split in SPLITS for info in shards[split].written), rejects)


def _prepared(config: CorpusConfig) -> Iterator[dict[str, Any] | Reject]:
    prepare = preparer(config.preparation, config.all_sources)
    for source in config.all_sources:
        for utterance in open_source(source).iterate():
            yield from prepared(utterance, prepare)
