"""Which dialogues share a row of a training batch, so that few frames of it stay empty."""

import bisect
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from paluku.corpus.shards import ShardSet
from paluku.corpus.storage import Place
from paluku.errors import CorpusError


def pack(frames: Sequence[int] | Int[np.ndarray, "N"], row_frames: int, seed: int) -> list[list[int]]:
    """The documents of each row: every document in exactly one, none longer than the row's room.

    Best fit decreasing (Johnson 1974, "Fast algorithms for bin packing"): at most 11/9 of the rows that are
    needed, and far fewer where there are many documents. Which of equally long ones meet depends on the seed.
    """
    lengths = np.asarray(frames)
    assert len(lengths) == 0 or lengths.max() <= row_frames, f"a document of {lengths.max()} frames"
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # free frames and number of each row, in order
    for document in shuffled[np.argsort(-lengths[shuffled], kind="stable")].tolist():
        length = int(lengths[document])
        place = bisect.bisect_left(room, (length, -1))
        free, row = room.pop(place) if place < len(room) else (row_frames, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(document)
        bisect.insort(room, (free - length, row))
    return rows


def frames_of(tokens: ShardSet) -> Int[np.ndarray, "N"]:
    """How long each row of a split is, in frames; nothing else of it is read.

    Raises:
        CorpusError: when a shard cannot be read.
    """
    return column_of(tokens, "num_frames").to_numpy().astype(np.int64)


def column_of(tokens: ShardSet, name: str) -> pa.ChunkedArray:
    """One column of a split, row by row; nothing else is read.

    Raises:
        CorpusError: when a shard cannot be read.
    """
    place = Place.of(tokens.folder)
    shards = [s.path for s in tokens.manifest.shards if s.split == tokens.split and s.rows]
    columns = [_column(place, shard, name) for shard in shards]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks])


def _column(place: Place, shard: str, name: str) -> pa.ChunkedArray:
    try:
        with place.open_input(shard) as source, pq.ParquetFile(source) as file:
            return file.read(columns=[name]).column(0)
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(
            f"{place.named(shard)} cannot be read ({error}); fetch or extract the tokens again"
        ) from error
