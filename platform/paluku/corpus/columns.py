"""Some columns of a split, row by row, without the sound: what rows are chosen by."""

from typing import Any

from paluku.corpus.report.scan import scan
from paluku.corpus.shards import ShardSet
from paluku.corpus.storage import Place


def columns(shards: ShardSet, *names: str) -> list[tuple[Any, ...]]:
    """The values of these columns in every row, in the order of the rows' numbers.

    Raises:
        CorpusError: when a shard cannot be read.
    """
    of_split = tuple(shard for shard in shards.manifest.shards if shard.split == shards.split and shard.rows)
    found: list[tuple[Any, ...]] = []
    for part in scan(Place.of(shards.folder), shards.manifest.model_copy(update={"shards": of_split})):
        found += zip(*(part.rows[name].to_pylist() for name in names), strict=True)
    return found
