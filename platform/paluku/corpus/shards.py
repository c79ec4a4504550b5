"""What every data stage leaves behind: a folder of Parquet shards and a manifest that names them by hash.

    FOLDER/train-00000.parquet    rows of one split, in row groups of `ROWS_PER_GROUP`
    FOLDER/manifest.json          written last: a folder without it is not whole

Three kinds share the form: utterances (one mono FLAC a row), dialogues (one two-channel FLAC a row,
channel 0 the reply, channel 1 the user) and tokens (codes and text, one token a frame).
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from paluku.config import Config
from paluku.errors import CorpusError, StorageError

MANIFEST = "manifest.json"

# Row groups are the unit of random access: 64 dialogues of 8 s are about 8 MB of FLAC.
ROWS_PER_GROUP = 64
CACHED_GROUPS = 8

Kind = Literal["utterances", "dialogues", "tokens"]
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

TURN = pa.struct(
    [("role", pa.string()), ("text", pa.string()), ("start_s", pa.float32()), ("end_s", pa.float32())]
)

SCHEMAS: dict[Kind, pa.Schema] = {
    "utterances": pa.schema(
        [
            ("id", pa.string()),
            ("audio", pa.binary()),
            ("sample_rate_hz", pa.int32()),
            ("num_samples", pa.int64()),
            ("text", pa.string()),
            ("language", pa.string()),
            ("speaker", pa.string()),
            ("source", pa.string()),
            ("licence", pa.string()),
            ("split", pa.string()),
        ]
    ),
    "dialogues": pa.schema(
        [
            ("id", pa.string()),
            ("audio", pa.binary()),
            ("sample_rate_hz", pa.int32()),
            ("num_samples", pa.int64()),
            ("voice", pa.string()),
            ("style", pa.string()),
            ("turns", pa.list_(TURN)),
            ("source", pa.string()),
            ("licence", pa.string()),
            ("split", pa.string()),
        ]
    ),
    "tokens": pa.schema(
        [
            ("id", pa.string()),
            ("split", pa.string()),
            ("voice", pa.string()),
            ("style", pa.string()),
            ("num_frames", pa.int32()),
            ("agent_codes", pa.list_(pa.int16())),
            ("user_codes", pa.list_(pa.int16())),
            ("text", pa.list_(pa.int16())),
        ]
    ),
}


class ShardInfo(Config):
    """One shard: its file name below the folder, and what must be found in it."""

    path: str
    rows: int
    num_bytes: int
    sha256: str
    split: Split


class Manifest(Config):
    """What a shard folder says of itself."""

    schema_version: Literal[1] = 1
    kind: Kind
    config_sha256: str
    parents: dict[str, str] = Field(default_factory=dict)
    shards: tuple[ShardInfo, ...]
    hours: dict[Split, float] = Field(default_factory=dict)
    rejects: dict[str, int] = Field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Names the data: every shard's bytes, the configuration and the parents."""
        return self.digest()[:16]

    def rows(self, split: Split | None = None) -> int:
        """Rows of one split, or of all."""
        return sum(shard.rows for shard in self.shards if split in (None, shard.split))


def write_shard(
    folder: Path, kind: Kind, split: Split, number: int, rows: Sequence[Mapping[str, Any]]
) -> ShardInfo:
    """Write one shard into an existing folder; the file appears whole or not at all.

    The same rows give the same bytes. Lists of codes may be given as numpy arrays.

    Raises:
        StorageError: when the place cannot be written (full, read-only).
    """
    path = folder / f"{split}-{number:05d}.parquet"
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMAS[kind])
    write_table(path, table)
    return ShardInfo(
        path=path.name,
        rows=len(rows),
        num_bytes=path.stat().st_size,
        sha256=_sha256(path),
        split=split,
    )


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file that appears whole or not at all.

    Raises:
        StorageError: when the place cannot be written (full, read-only).
    """
    partial = path.with_suffix(".partial")
    try:
        pq.write_table(table, partial, row_group_size=ROWS_PER_GROUP, compression="zstd")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written ({error}); free space or choose another folder"
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Declare the folder whole. To be called last.

    Raises:
        StorageError: when the place cannot be written (full, read-only).
    """
    partial = folder / f"{MANIFEST}.partial"
    try:
        partial.write_text(manifest.to_json(), encoding="utf-8")
        partial.replace(folder / MANIFEST)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"{folder} cannot be written ({error}); free space or choose another folder"
        ) from error


def read_manifest(folder: Path, kind: Kind | None = None) -> Manifest:
    """The manifest alone.

    Raises:
        CorpusError: when the folder is not whole, or holds another kind.
        ConfigError: when the manifest does not fit this version's schema.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CorpusError(
            f"{folder} holds no {MANIFEST}: it is no corpus, or was not written whole; build it again"
        )
    manifest = Manifest.from_file(path)
    if kind is not None and manifest.kind != kind:
        raise CorpusError(f"{folder} holds {manifest.kind}, not {kind}; give the folder of the {kind}")
    return manifest


class ShardSet:
    """Random access to the rows of one split; rows are numbered in the manifest's order of shards.

    Raises:
        CorpusError: when the folder is not whole, holds another kind, has no rows in the split, or a
            shard is missing or of another size than the manifest says.
    """

    def __init__(self, folder: Path, kind: Kind, split: Split) -> None:
        self.folder, self.split = folder, split
        self.manifest = read_manifest(folder, kind)
        self._shards = [s for s in self.manifest.shards if s.split == split and s.rows]
        if not self._shards:
            raise CorpusError(
                f"{folder} has no rows in split {split!r}; build it with a larger share for {split}"
            )
        for shard in self._shards:
            self._check_size(shard)
        self._ends = np.cumsum([s.rows for s in self._shards])
        self._group = functools.lru_cache(maxsize=CACHED_GROUPS)(self._read_group)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        # The cache stays behind: a worker process fills its own.
        return {key: value for key, value in self.__dict__.items() if key != "_group"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._group = functools.lru_cache(maxsize=CACHED_GROUPS)(self._read_group)

    def rows(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of these numbers, in this order; lists of codes come as int16 arrays.

        Raises:
            CorpusError: when a shard cannot be read.
            IndexError: when a number is not in `[0, len)`.
        """
        return [self._row(index) for index in indices]

    def verify(self) -> None:
        """Read every shard of the split and compare its hash: slow on large sets.

        Raises:
            CorpusError: when a shard was damaged or exchanged.
        """
        for shard in self._shards:
            if (actual := _sha256(self.folder / shard.path)) != shard.sha256:
                raise CorpusError(
                    f"{self.folder / shard.path} has sha256 {actual[:12]}, its manifest says "
                    f"{shard.sha256[:12]}; it is damaged or was exchanged: build the corpus again"
                )

    def _check_size(self, shard: ShardInfo) -> None:
        path = self.folder / shard.path
        if not path.is_file():
            raise CorpusError(f"{path} is missing; fetch the whole folder again, or build it again")
        if (actual := path.stat().st_size) != shard.num_bytes:
            raise CorpusError(
                f"{path} has {actual} bytes, its manifest says {shard.num_bytes}; fetch or build it again"
            )

    def _row(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)} in {self.folder}")
        place = int(np.searchsorted(self._ends, index, side="right"))
        within = index - int(self._ends[place]) + self._shards[place].rows
        group, offset = divmod(within, ROWS_PER_GROUP)
        table = self._group(place, group)
        try:
            return {name: _value(table.column(name)[offset]) for name in table.column_names}
        except UnicodeDecodeError as error:
            raise CorpusError(f"{self.folder} is damaged (row {index}: {error}); build it again") from error

    def _read_group(self, place: int, group: int) -> pa.Table:
        path = self.folder / self._shards[place].path
        try:
            with pq.ParquetFile(path) as file:
                return file.read_row_group(group)
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(f"{path} cannot be read ({error}); fetch or build it again") from error


def _value(scalar: pa.Scalar) -> Any:
    if scalar.type == pa.list_(pa.int16()):
        return scalar.values.to_numpy(zero_copy_only=False)
    return scalar.as_py()


def hours(lengths: Iterable[int], rate_hz: int) -> float:
    """Duration of many lengths (samples, or frames) at a rate, rounded so that a manifest reads well."""
    return round(sum(lengths) / rate_hz / 3600, 6)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
