"""What every data stage leaves behind: a folder of Parquet shards and a manifest that names them by hash.

    FOLDER/train-00000.parquet    rows of one split, in row groups of `ROWS_PER_GROUP`
    FOLDER/manifest.json          written last: a folder without it is not whole

A folder is a local path or a URI (`corpus.storage`). Four kinds share the form: utterances (one mono
FLAC a row), dialogues (one two-channel FLAC a row, channel 0 the reply, channel 1 the user), tokens
(codes and text, one token a frame) and features (what a frozen encoder hears in utterances).
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from paluku.config import Config
from paluku.corpus.storage import Place
from paluku.errors import ConfigError, CorpusError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2

# Row groups are the unit of random access: 64 dialogues of 8 s are about 8 MB of FLAC.
ROWS_PER_GROUP = 64
CACHED_GROUPS = 8
READ_BLOCK_BYTES = 1 << 20

# FLAC, hashes and whitened features do not shrink, and no two are the same: none is worth a compressor or a
# dictionary.
INCOMPRESSIBLE = ("audio", "fingerprint", "features")

Kind = Literal["utterances", "dialogues", "tokens", "features"]
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
AnyFolder = Path | str | Place

WORD = pa.struct([("text", pa.string()), ("start_s", pa.float32()), ("end_s", pa.float32())])
TURN = pa.struct(
    [
        ("role", pa.string()),
        ("text", pa.string()),
        ("start_s", pa.float32()),
        ("end_s", pa.float32()),
        ("kind", pa.string()),  # turn, backchannel, interruption, cut
        ("words", pa.list_(WORD)),
        ("is_timed", pa.bool_()),  # the words stand where the engine says; else estimated
    ]
)
# A turn of the user's in tokens: its frames, and what it asks where that is known.
USER_TURN = pa.struct(
    [("text", pa.string()), ("intent", pa.string()), ("start", pa.int32()), ("end", pa.int32())]
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
            ("gender", pa.string()),
            ("source", pa.string()),
            ("licence", pa.string()),
            ("split", pa.string()),
            ("origin", pa.string()),  # path, or voice:NAME
            ("start_s", pa.float32()),  # in the origin, as end_s
            ("end_s", pa.float32()),
            ("source_rate_hz", pa.int32()),
            ("snr_db", pa.float32()),
            ("bandwidth_hz", pa.int32()),
            ("clipped_share", pa.float32()),
            ("silence_share", pa.float32()),
            ("loudness_lufs", pa.float32()),  # before normalisation
            ("gain_db", pa.float32()),
            ("fingerprint", pa.binary()),
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
            ("user_voice", pa.string()),
            ("intents", pa.list_(pa.string())),
            ("turns", pa.list_(TURN)),
            ("augmentation", pa.string()),  # JSON
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
            ("text", pa.list_(pa.int16())),  # of the reply
            ("user_text", pa.list_(pa.int16())),  # each word once it was heard
            ("user_turns", pa.list_(USER_TURN)),  # in the order of their starts
        ]
    ),
    "features": pa.schema(
        [
            ("id", pa.string()),  # of the utterance
            ("split", pa.string()),
            ("num_frames", pa.int32()),
            ("features", pa.binary()),  # float16 [T, D], row by row, little-endian
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

    schema_version: Literal[2] = SCHEMA_VERSION
    kind: Kind
    config_sha256: str
    recipe: dict[str, Any] = Field(default_factory=dict)  # the configuration, without the place written to
    parents: dict[str, str] = Field(default_factory=dict)
    shards: tuple[ShardInfo, ...]
    hours: dict[Split, float] = Field(default_factory=dict)
    breakdown: dict[str, dict[str, float]] = Field(default_factory=dict)  # hours by language, source, ...
    licences: dict[str, str] = Field(default_factory=dict)  # of each source
    rejects: dict[str, int] = Field(default_factory=dict)  # by reason
    counts: dict[str, int] = Field(default_factory=dict)  # rows of which something else is worth knowing

    @property
    def hash(self) -> str:
        """Names the data: every shard's bytes, the configuration and the parents."""
        return self.digest()[:16]

    def rows(self, split: Split | None = None) -> int:
        """Rows of one split, or of all."""
        return sum(shard.rows for shard in self.shards if split in (None, shard.split))


class ShardWriter:
    """One shard, row by row, in bounded memory: `with place.writing(name) as sink: ShardWriter(sink, kind)`.

    The same rows give the same bytes. Lists of codes may be given as numpy arrays.
    """

    def __init__(self, sink: Any, schema: pa.Schema, rows_per_group: int = ROWS_PER_GROUP) -> None:
        names = leaves(schema)
        compressible = [name for name in names if name not in INCOMPRESSIBLE]
        self._schema, self._rows_per_group = schema, rows_per_group
        self._waiting: list[dict[str, Any]] = []
        compression = {name: "ZSTD" if name in compressible else "NONE" for name in names}
        self._parquet = pq.ParquetWriter(
            sink,
            schema,
            compression=compression,  # pyright: ignore[reportArgumentType] (a dictionary, too)
            use_dictionary=compressible,  # pyright: ignore[reportArgumentType] (a list of columns, too)
            write_statistics=compressible,  # pyright: ignore[reportArgumentType]
        )
        self.rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row; columns that it has and the schema has not are left out."""
        self._waiting.append(dict(row))
        self.rows += 1
        if len(self._waiting) == self._rows_per_group:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the file's end."""
        self._flush()
        self._parquet.close()

    def _flush(self) -> None:
        if self._waiting:
            self._parquet.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []


def leaves(schema: pa.Schema) -> list[str]:
    """Parquet's paths of a schema's columns, nested ones too: `turns.list.element.text`."""
    buffer = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), buffer)
    parquet = pq.ParquetFile(pa.BufferReader(buffer.getvalue())).schema
    return [parquet.column(number).path for number in range(len(parquet))]


def shard_name(split: Split, number: int) -> str:
    """Its file below the folder."""
    return f"{split}-{number:05d}.parquet"


def write_shard(
    folder: AnyFolder, kind: Kind, split: Split, number: int, rows: Iterable[Mapping[str, Any]]
) -> ShardInfo:
    """Write one shard; the file appears whole or not at all. Rows may be given one by one.

    The same rows give the same bytes. Lists of codes may be given as numpy arrays.

    Raises:
        StorageError: when the place cannot be written (full, read-only).
    """
    path = shard_name(split, number)
    with Place.of(folder).writing(path) as sink:
        writer = ShardWriter(sink, SCHEMAS[kind])
        try:
            for row in rows:
                writer.add(row)
        finally:
            writer.close()  # while there is something to write to; what rows that fail leave is thrown away
    return ShardInfo(path=path, rows=writer.rows, num_bytes=sink.num_bytes, sha256=sink.sha256, split=split)


def write_table(folder: AnyFolder, name: str, table: pa.Table) -> None:
    """Write a Parquet file that appears whole or not at all.

    Raises:
        StorageError: when the place cannot be written (full, read-only).
    """
    with Place.of(folder).writing(name) as sink:
        pq.write_table(table, sink, compression="zstd")


def write_manifest(folder: AnyFolder, manifest: Manifest) -> None:
    """Declare the folder whole. To be called last.

    Raises:
        StorageError: when the place cannot be written (full, read-only).
    """
    Place.of(folder).write_bytes(MANIFEST, manifest.to_json().encode())


def read_manifest(folder: AnyFolder, kind: Kind | None = None) -> Manifest:
    """The manifest alone.

    Raises:
        CorpusError: when the folder is not whole, holds another kind, or an older version wrote it.
        ConfigError: when the manifest does not fit this version's schema.
        StorageError: when the place cannot be reached.
    """
    place = Place.of(folder)
    if not place.exists(MANIFEST):
        raise CorpusError(
            f"{place} holds no {MANIFEST}: it is no corpus, or was not written whole; build it again"
        )
    manifest = _parsed(place.read_bytes(MANIFEST), place)
    if kind is not None and manifest.kind != kind:
        raise CorpusError(f"{place} holds {manifest.kind}, not {kind}; give the folder of the {kind}")
    return manifest


def _parsed(data: bytes, place: Place) -> Manifest:
    name = place.named(MANIFEST)
    try:
        text = data.decode()
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name} is not JSON ({error}); it may be half-written: build it again") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version < SCHEMA_VERSION:
        raise CorpusError(
            f"{place} was written in schema {version}, this version reads {SCHEMA_VERSION}; build it again"
        )
    return Manifest.from_json(text, name)


class ShardSet:
    """Random access to the rows of one split; rows are numbered in the manifest's order of shards.

    Raises:
        CorpusError: when the folder is not whole, holds another kind, has no rows in the split, or a
            shard is missing or of another size than the manifest says.
        StorageError: when the place cannot be reached.
    """

    def __init__(self, folder: Path | str, kind: Kind, split: Split) -> None:
        self.folder, self.split = folder, split
        self._place = Place.of(folder)
        self.manifest = read_manifest(self._place, kind)
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
            CorpusError: when a shard cannot be read, or an older version wrote it without some column.
            IndexError: when a number is not in `[0, len)`.
        """
        return [self._row(index) for index in indices]

    def verify(self) -> None:
        """Read every shard of the split and compare its hash: slow on large sets.

        Raises:
            CorpusError: when a shard was damaged or exchanged.
        """
        for shard in self._shards:
            if (actual := _sha256(self._place, shard.path)) != shard.sha256:
                raise CorpusError(
                    f"{self._place.named(shard.path)} has sha256 {actual[:12]}, its manifest says "
                    f"{shard.sha256[:12]}; it is damaged or was exchanged: build the corpus again"
                )

    def _check_size(self, shard: ShardInfo) -> None:
        path, actual = self._place.named(shard.path), self._place.size(shard.path)
        if actual is None:
            raise CorpusError(f"{path} is missing; fetch the whole folder again, or build it again")
        if actual != shard.num_bytes:
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
        name = self._shards[place].path
        try:
            with self._place.open_input(name) as source, pq.ParquetFile(source) as file:
                table = file.read_row_group(group)
        except (OSError, pa.ArrowException) as error:
            path = self._place.named(name)
            raise CorpusError(f"{path} cannot be read ({error}); fetch or build it again") from error
        kind = self.manifest.kind
        if lacking := set(SCHEMAS[kind].names) - set(table.column_names):
            raise CorpusError(
                f"{self._place.named(name)} has no {', '.join(sorted(lacking))}: an older version wrote it; "
                f"make the {kind} again (tokens: jobs/extract_tokens.py)"
            )
        return table


def _value(scalar: pa.Scalar) -> Any:
    if scalar.type == pa.list_(pa.int16()):
        return scalar.values.to_numpy(zero_copy_only=False)
    return scalar.as_py()


def hours(lengths: Iterable[int], rate_hz: float) -> float:
    """Duration of many lengths (samples, or frames) at a rate, rounded so that a manifest reads well."""
    return round(sum(lengths) / rate_hz / 3600, 6)


def _sha256(place: Place, name: str) -> str:
    sha = hashlib.sha256()
    with place.open_input(name) as file:
        while block := file.read(READ_BLOCK_BYTES):
            sha.update(block)
    return sha.hexdigest()
