"""Reading a corpus from one end to the other, without its sound; and single rows with it, by place."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from paluku.corpus.building.rejects import REJECTS
from paluku.corpus.shards import Manifest
from paluku.corpus.splits import fraction
from paluku.corpus.storage import Place
from paluku.errors import CorpusError

ROWS_PER_BATCH = 1024
SOUND = "audio"
# Of a dialogue's turns, the times of single words are as many again as everything else.
WORDS = "turns.list.element.words"


class Batch(NamedTuple):
    """Rows that follow each other in one shard."""

    shard: str
    first_row: int
    rows: pa.Table


class Spot(NamedTuple):
    """Where a row lies."""

    shard: str
    row: int


class Sampler:
    """Draws `each` rows of every source and split; the same ones in whatever order rows are offered."""

    def __init__(self, each: int, seed: int) -> None:
        self._each, self._seed = each, seed
        self._best: dict[tuple[str, str], list[tuple[float, Spot]]] = defaultdict(list)

    def offer(self, batch: Batch) -> None:
        """Look at some rows."""
        columns = [batch.rows[name].to_pylist() for name in ("id", "source", "split")]
        for offset, (row_id, source, split) in enumerate(zip(*columns, strict=True)):
            # The greatest are kept: a heap gives up its least.
            drawn = (fraction(row_id, self._seed), Spot(batch.shard, batch.first_row + offset))
            heap = self._best[source, split]
            if len(heap) < self._each:
                heapq.heappush(heap, drawn)
            elif heap:
                heapq.heappushpop(heap, drawn)

    def drawn(self) -> list[Spot]:
        """The rows' places, by source and split."""
        return [spot for key in sorted(self._best) for _, spot in sorted(self._best[key], reverse=True)]


def scan(place: Place, manifest: Manifest) -> Iterator[Batch]:
    """All rows without sound, shard after shard.

    Raises:
        CorpusError: when a shard is missing or cannot be read.
    """
    for shard in manifest.shards:
        first_row = 0
        for rows in _tables(place, shard.path):
            yield Batch(shard.path, first_row, rows)
            first_row += len(rows)


def rejects(place: Place) -> Iterator[list[dict[str, Any]]]:
    """The rows of `rejects.parquet`, some at a time; none where there is no such file.

    Raises:
        CorpusError: when it cannot be read.
    """
    if place.exists(REJECTS):
        for table in _tables(place, REJECTS):
            yield table.to_pylist()


def fetch(place: Place, spots: Iterable[Spot]) -> list[dict[str, Any]]:
    """These rows, with sound, in this order.

    Raises:
        CorpusError: when a shard is missing or cannot be read.
    """
    return [_row(place, spot) for spot in spots]


def _tables(place: Place, name: str) -> Iterator[pa.Table]:
    try:
        with place.open_input(name) as source, pq.ParquetFile(source) as file:
            leaves = [file.schema.column(i).path for i in range(len(file.schema))]
            light = [path for path in leaves if path != SOUND and not path.startswith(WORDS)]
            for rows in file.iter_batches(ROWS_PER_BATCH, columns=light):
                yield pa.Table.from_batches([rows])
    except (OSError, pa.ArrowException) as error:
        raise _damaged(place, name, error) from error


def _row(place: Place, spot: Spot) -> dict[str, Any]:
    try:
        with place.open_input(spot.shard) as source, pq.ParquetFile(source) as file:
            group, row = 0, spot.row
            while row >= (size := file.metadata.row_group(group).num_rows):
                group, row = group + 1, row - size
            return file.read_row_group(group).slice(row, 1).to_pylist()[0]
    except (OSError, pa.ArrowException) as error:
        raise _damaged(place, spot.shard, error) from error


def _damaged(place: Place, name: str, error: Exception) -> CorpusError:
    return CorpusError(f"{place}/{name} cannot be read ({error}); fetch the folder again, or build it again")
