"""A folder to read from and write into: on this machine, or in an object store (`s3://`, `gs://`).

    place = Place.of("s3://bucket/corpora/te?region=ap-south-1")
    place.write_bytes("manifest.json", data)

What a URI may say (region, `endpoint_override`, ...) is pyarrow's: see `pyarrow.fs.FileSystem.from_uri`.
Keys are taken from the environment, as every tool of the store does. A file appears whole or not at all.
"""

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs
from pydantic import AfterValidator, BeforeValidator

from paluku.errors import CorpusError, StorageError

PARTIAL = ".partial"  # what a killed writer leaves behind ends so
SCHEME = "://"
TRIED_WRITES = 3


def is_uri(where: str | Path) -> bool:
    """Whether `where` names a place in an object store rather than a path."""
    return SCHEME in str(where)


def _given_fully(where: str) -> str:
    if not is_uri(where) and not Path(where).is_absolute():
        raise ValueError(f"{where} must be absolute, or a URI: a job's working directory is temporary")
    return where


# An absolute path or a URI, in a configuration.
AnyPlace = Annotated[str, BeforeValidator(lambda where: str(where)), AfterValidator(_given_fully)]


class Stamp(NamedTuple):
    """What changes when a file is replaced."""

    num_bytes: int
    mtime_ns: int


class Sink(io.RawIOBase):
    """What is written goes on to a file; its length and its sha256 are known afterwards."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._sha = file, hashlib.sha256()
        self.num_bytes = 0
        self.has_failed = False  # tells the file's own trouble from that of whoever fills it

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes so far; Parquet's writer asks."""
        return self.num_bytes

    def write(self, data: "bytes | memoryview") -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All of it."""
        try:
            self._file.write(data)
        except OSError:
            self.has_failed = True
            raise
        self._sha.update(data)
        self.num_bytes += len(data)
        return len(data)

    @property
    def sha256(self) -> str:
        """In hex, of what was written."""
        return self._sha.hexdigest()


class Place:
    """One folder; names below it are relative and use `/`."""

    def __init__(self, where: str, filesystem: fs.FileSystem, root: str, local: Path | None) -> None:
        self.where, self.local = where, local
        self._fs, self._root = filesystem, root.rstrip("/")

    @classmethod
    def of(cls, where: "str | Path | Place") -> "Place":
        """The place that a path or a URI names; it need not exist yet.

        Raises:
            StorageError: when no store is known by the URI's scheme, or the URI is broken.
        """
        if isinstance(where, Place):
            return where
        if not is_uri(where):
            path = Path(where).absolute()
            return cls(str(path), fs.LocalFileSystem(), str(path), path)
        try:
            filesystem, root = fs.FileSystem.from_uri(str(where))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise StorageError(
                f"{without_keys(str(where))} cannot be opened ({error}); give an absolute path, s3:// or gs://"
            ) from error
        local = Path(root) if isinstance(filesystem, fs.LocalFileSystem) else None
        return cls(str(where), filesystem, root, local)

    def __truediv__(self, name: str) -> "Place":
        path, question, query = self.where.partition("?") if self.local is None else (self.where, "", "")
        below = self.local / name if self.local else None
        named = name if self.local else quote(name)
        return Place(f"{path.rstrip('/')}/{named}{question}{query}", self._fs, f"{self._root}/{name}", below)

    def __str__(self) -> str:
        return without_keys(self.where)

    def __reduce__(self) -> tuple[Callable[[str], "Place"], tuple[str]]:
        """A process opens its own connection."""
        return Place.of, (self.where,)

    @classmethod
    def of_file(cls, where: str | Path) -> "tuple[Place, str]":
        """The folder of the file that a path or a URI names, and the file's name in it.

        Raises:
            StorageError: as `of`.
        """
        if not is_uri(where):
            path = Path(where).absolute()
            return cls.of(path.parent), path.name
        path, question, query = str(where).partition("?")
        folder, _, name = path.rpartition("/")
        return cls.of(f"{folder}{question}{query}"), unquote(name)

    def named(self, name: str) -> str:
        """How a message calls a file."""
        return f"{self}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name.

        Raises:
            StorageError: when the store cannot be asked.
        """
        return self._info(name).type == fs.FileType.File

    def size(self, name: str) -> int | None:
        """Bytes of a file; none when there is no such file.

        Raises:
            StorageError: when the store cannot be asked.
        """
        info = self._info(name)
        return info.size if info.type == fs.FileType.File else None

    def list(self, below: str = "", suffix: str = "", *, recursive: bool = False) -> list[str]:
        """Names of the files below a folder, relative to this place, sorted; none when it does not exist.

        Links to files are files; links to folders are not followed, since one may lead to its own parent.

        Raises:
            CorpusError: when a file's name is not UTF-8.
            StorageError: when the store cannot be asked.
        """
        if self.local is not None:
            with self._reading(below or "."):
                found = [str(path.relative_to(self.local)) for path in _walk(self.local / below, recursive)]
            self._refuse_unspeakable(found)
        else:
            found = [info.path[len(self._root) + 1 :] for info in self._infos(below, recursive=recursive)]
        return sorted(name for name in found if name.endswith(suffix))

    def stamps(self, below: str = "") -> "dict[str, Stamp]":
        """What tells each file of a folder from another of its name: one question for all of them.

        Raises:
            StorageError: when the store cannot be asked.
        """
        if self.local is None:
            infos = self._infos(below, recursive=False)
            return {info.path[len(self._root) + 1 :]: Stamp(info.size, info.mtime_ns or 0) for info in infos}
        found = ((name, self.stamp(name)) for name in self.list(below))
        return {name: stamp for name, stamp in found if stamp is not None}

    def stamp(self, name: str) -> "Stamp | None":
        """As `stamps`, of one file; none when there is no such file.

        Raises:
            StorageError: when the store cannot be asked.
        """
        info = self._info(name)
        return Stamp(info.size, info.mtime_ns or 0) if info.type == fs.FileType.File else None

    def open_input(self, name: str) -> pa.NativeFile:
        """A file to read at any position; the caller closes it.

        Raises:
            CorpusError: when it is missing.
            StorageError: when it cannot be read.
        """
        with self._reading(name):
            return self._fs.open_input_file(f"{self._root}/{name}")

    def read_bytes(self, name: str) -> bytes:
        """A whole file.

        Raises:
            CorpusError: when it is missing.
            StorageError: when it cannot be read.
        """
        with self._reading(name), self._fs.open_input_file(f"{self._root}/{name}") as file:
            return file.read()

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file that appears whole or not at all, and is on the disk when this returns.

        Raises:
            StorageError: when the place is full, read-only or out of reach.
        """
        with self.writing(name) as sink:
            sink.write(data)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Sink]:
        """A sink whose file gets its name when the block ends well, and is forgotten when it does not.

        An object store's file is gathered in memory and put at once.

        Raises:
            StorageError: as `write_bytes`.
        """
        sink: Sink | None = None
        of_caller: BaseException | None = None
        try:
            with self._writing_local(name) if self.local else self._writing_remote(name) as sink:
                try:
                    yield sink
                except BaseException as error:
                    of_caller = error
                    raise
        except (OSError, pa.ArrowException) as error:
            # What fills the file may fail of itself: a recording that cannot be read is no full disk.
            if error is of_caller and not (sink and sink.has_failed):
                raise
            raise StorageError(
                f"{self.named(name)} cannot be written ({error}); free space or choose another place"
            ) from error

    def delete(self, name: str) -> None:
        """Remove a file, where there is one.

        Raises:
            StorageError: when the place cannot be changed.
        """
        with contextlib.suppress(FileNotFoundError), self._changing(name):
            self._fs.delete_file(f"{self._root}/{name}")

    def delete_tree(self, name: str) -> None:
        """Remove a folder and all below it, where there is one.

        Raises:
            StorageError: when the place cannot be changed.
        """
        with contextlib.suppress(FileNotFoundError), self._changing(name):
            self._fs.delete_dir(f"{self._root}/{name}")

    def _info(self, name: str) -> fs.FileInfo:
        with self._reading(name):
            return self._fs.get_file_info(f"{self._root}/{name}")

    def _infos(self, below: str, *, recursive: bool) -> Sequence[fs.FileInfo]:
        folder = f"{self._root}/{below}".rstrip("/")
        selector = fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
        with self._reading(below or "."):
            found = self._fs.get_file_info(selector)
        return [info for info in found if info.type == fs.FileType.File]

    def _refuse_unspeakable(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError as error:
                shown = os.fsencode(name).decode("utf-8", "backslashreplace")
                raise CorpusError(f"{self.named(shown)}: the name is not UTF-8; rename the file") from error

    @contextlib.contextmanager
    def _writing_local(self, name: str) -> Iterator[Sink]:
        assert self.local is not None
        path = self.local / name
        # Two tasks may write the same file at once (one of them given up for dead): each its own.
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        file = _created(partial)
        try:
            with file:
                yield Sink(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:  # Ctrl-C too: what is not whole has no name
            partial.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _writing_remote(self, name: str) -> Iterator[Sink]:
        buffer = io.BytesIO()
        yield Sink(buffer)
        with self._fs.open_output_stream(f"{self._root}/{name}", compression=None) as stream:
            stream.write(buffer.getbuffer())

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise CorpusError(f"{self.named(name)} is missing; fetch it again, or build it again") from error
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"{self.named(name)} cannot be read ({error}); is the place there, and may you read it?"
            ) from error

    @contextlib.contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"{self.named(name)} cannot be removed ({error}); may you write there?"
            ) from error


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:  # it was never there, or was removed while we looked
        return
    for entry in entries:
        if entry.is_file():
            yield Path(entry.path)
        elif recursive and entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), recursive)


def _created(path: Path) -> BinaryIO:
    for _ in range(TRIED_WRITES - 1):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("wb")
        except FileNotFoundError:  # the folder was emptied by another between the two lines
            continue
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def without_keys(where: str) -> str:
    """A place as it may be shown and kept: no keys (before a URI's `@`), no options (after its `?`)."""
    path = where.partition("?")[0] if is_uri(where) else where
    scheme, separator, rest = path.partition(SCHEME)
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else path
