"""Published archives: fetched with progress, resume, checks and retries, then unpacked.

A download goes to `NAME.partial` and continues there after a break, by an HTTP range; the file has its name
only once its size and checksum are right. Without a network the error names the URL and the place where
the file may be put by hand: whatever lies there is checked and used as if it had been fetched.
"""

import contextlib
import errno
import hashlib
import http.client
import lzma
import struct
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from paluku.config import Config
from paluku.errors import CorpusError, StorageError

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60.0
# Tries in a row that brought nothing; a connection that breaks after every megabyte still gets there.
TRIES = 5
LONGEST_PAUSE_S = 30.0
# Later is better for these; any other 4xx answer stays what it is.
BUSY_STATUS = frozenset({408, 425, 429})
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206
# What reading a damaged archive raises, besides an OSError without a number (gzip, bz2).
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, ValueError, OverflowError),
)

Sleep = Callable[[float], None]


class Archive(Config):
    """A published file, what it makes when it is unpacked, and how it is recognised."""

    url: str = Field(pattern=r"^https?://")
    name: str  # of the file as it is kept
    holds: str  # a file or folder that is there once it is unpacked, relative to the corpus's folder
    into: str = ""  # the folder that it is unpacked into
    checksum: str | None = None  # hex, as its publisher or a mirror states it
    algorithm: Literal["sha256", "md5"] = "sha256"
    size_bytes: int | None = Field(default=None, gt=0)


class NotFetched(CorpusError):  # noqa: N818 (a state of the folder, dealt with by a dry run)
    """What would be fetched or unpacked, were this no dry run."""


class _Broken(Exception):  # noqa: N818 (a state of the connection, dealt with here)
    """A try that ended early; what it brought is kept."""


def provide(
    archives: Sequence[Archive],
    folder: Path,
    *,
    download: bool,
    only_look: bool = False,
    sleep: Sleep = time.sleep,
) -> None:
    """See to it that every archive is unpacked below `folder`, fetching what is not there when `download`.

    What was half unpacked when a run was killed is unpacked again.

    Raises:
        CorpusError: when an archive is neither unpacked, nor there, nor to be had, or is another one.
        NotFetched: when one is still to be fetched or unpacked, and this shall `only_look`.
        StorageError: when the folder cannot be written.
    """
    wanted = [archive for archive in archives if not _is_unpacked(archive, folder)]
    if only_look and (steps := [_step(archive, folder, download) for archive in wanted]):
        raise NotFetched(", ".join(steps))
    for archive in wanted:
        unfinished = _unfinished(archive, folder)
        path = _archive_file(archive, folder, download, sleep)
        with _writing(unfinished):
            unfinished.touch()
        unpack(path, folder / archive.into)
        if not (folder / archive.holds).exists():
            raise CorpusError(
                f"{path} does not hold {archive.holds}; it is another archive than {archive.url}"
            )
        unfinished.unlink()


def _is_unpacked(archive: Archive, folder: Path) -> bool:
    return (folder / archive.holds).exists() and not _unfinished(archive, folder).exists()


def _unfinished(archive: Archive, folder: Path) -> Path:
    return folder / f".{archive.name}.unpacking"


def _step(archive: Archive, folder: Path, download: bool) -> str:
    """What a run would do first."""
    if (folder / archive.name).is_file():
        return f"{folder / archive.name} to be unpacked"
    if not download:
        raise _missing(archive, folder)
    return f"{archive.url} to be fetched"


def _missing(archive: Archive, folder: Path) -> CorpusError:
    return CorpusError(
        f"{folder} holds neither {archive.holds} nor {archive.name}; "
        f"set download: true, or put {archive.url} there by hand as {folder / archive.name}"
    )


def _archive_file(archive: Archive, folder: Path, download: bool, sleep: Sleep) -> Path:
    path = folder / archive.name
    if not path.is_file() and download:
        return fetch(archive, folder, sleep=sleep)
    if not path.is_file():
        raise _missing(archive, folder)
    if complaint := _complaint(archive, path):
        raise CorpusError(f"{path} {complaint}; remove it and fetch it again from {archive.url}")
    return path


def fetch(archive: Archive, folder: Path, *, sleep: Sleep = time.sleep) -> Path:
    """Download into `folder`, going on where an earlier try stopped.

    Raises:
        CorpusError: when the server cannot be reached, refuses, or serves something else; the message names
            the URL and where the file may be put by hand.
        StorageError: when the folder cannot be written; what was fetched until then stays.
    """
    path = folder / archive.name
    partial = folder / f"{archive.name}.partial"
    advice = f"fetch it elsewhere and put it at {path}"
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    complaint: str | None = None
    for _ in range(2):  # wrong bytes may come from a resumed mixture: once more, from the start
        _bring(archive, partial, advice, sleep)
        complaint = _complaint(archive, partial)
        if complaint is None:
            with _writing(path):
                partial.rename(path)
            _tag(partial).unlink(missing_ok=True)
            return path
        _forget(partial)
    raise CorpusError(f"{archive.url} {complaint}; {advice}")


def _bring(archive: Archive, partial: Path, advice: str, sleep: Sleep) -> None:
    """Try until the whole file is there; give up after `TRIES` tries in a row that brought nothing."""
    fruitless = 0
    with _progress() as progress:
        task = progress.add_task(archive.name, total=archive.size_bytes)
        while True:
            before = _size(partial)
            try:
                _try(
                    archive.url,
                    partial,
                    lambda done, total: progress.update(task, completed=done, total=total),
                )
            except _Broken as error:
                fruitless = 0 if _size(partial) > before else fruitless + 1
                if fruitless >= TRIES:
                    raise CorpusError(f"{archive.url} cannot be fetched ({error}); {advice}") from error
                sleep(min(2.0**fruitless, LONGEST_PAUSE_S))
            except urllib.error.HTTPError as error:
                raise CorpusError(f"{archive.url} is refused (HTTP {error.code}); {advice}") from error
            else:
                return


def _try(url: str, partial: Path, report: Callable[[int, int | None], None]) -> None:
    """One connection, from where the partial file ends.

    Raises:
        _Broken: when it ends before the file does.
        HTTPError: when the server will not give it, now or later.
        StorageError: when the partial file cannot be written.
    """
    have = _size(partial)
    try:
        with _answer(url, partial, have) as answer:
            begin = _begin(answer, have)
            total = _total(answer, begin)
            with _writing(_tag(partial)):
                _tag(partial).write_text(answer.headers.get("ETag", ""), encoding="utf-8")
            _append(answer, partial, begin, lambda done: report(done, total))
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE:
            if error.headers.get("Content-Range", "") == f"bytes */{have}":
                return
            _forget(partial)
        elif error.code < 500 and error.code not in BUSY_STATUS:
            raise
        raise _Broken(f"HTTP {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _broken(error) from error
    if total is not None and _size(partial) < total:
        raise _Broken(f"the connection ended after {_size(partial)} of {total} bytes")


def _answer(url: str, partial: Path, have: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "paluku", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag := (_tag(partial).read_text(encoding="utf-8") if _tag(partial).exists() else ""):
            headers["If-Range"] = tag  # a file that was changed meanwhile comes whole
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (http or https: `Archive`)
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310


def _begin(answer: http.client.HTTPResponse, have: int) -> int:
    """Where the answer's first byte belongs: a server that ignores the range begins at 0."""
    if answer.status != PARTIAL_CONTENT:
        return 0
    said = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(said) if said.isdigit() and int(said) <= have else 0


def _total(answer: http.client.HTTPResponse, begin: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return begin + int(length) if length.isdigit() else None


def _append(
    answer: http.client.HTTPResponse, partial: Path, begin: int, report: Callable[[int], None]
) -> None:
    with _writing(partial), partial.open("r+b" if partial.exists() else "wb") as file:
        file.truncate(begin)
        file.seek(begin)
        while chunk := _chunk(answer):
            file.write(chunk)
            report(file.tell())


def _chunk(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> _Broken:
    return _Broken(str(getattr(error, "reason", "")) or str(error) or type(error).__name__)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tells the disk's errors from the connection's and the archive's: trying again does not help."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error


def _complaint(archive: Archive, path: Path) -> str | None:
    """How a file differs from what was published."""
    size = _size(path)
    if archive.size_bytes not in (None, size):
        return f"has {size} bytes, not {archive.size_bytes}"
    if archive.checksum is None:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, archive.algorithm).hexdigest()
    return (
        None if found == archive.checksum else f"has the {archive.algorithm} {found}, not {archive.checksum}"
    )


def unpack(path: Path, into: Path) -> None:
    """A tar (gz, bz2, xz) or zip archive, whose members may lie nowhere but below `into`.

    Raises:
        CorpusError: when it is damaged, encrypted, is no archive, or a member would be written elsewhere.
        StorageError: when `into` cannot be written.
    """
    with _writing(into):
        into.mkdir(parents=True, exist_ok=True)
    try:
        (_unpack_zip if zipfile.is_zipfile(path) else _unpack_tar)(path, into)
    except tarfile.FilterError as error:
        raise CorpusError(f"{path} has an unsafe member ({error}); do not trust it") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: a place in the file that cannot be
            raise StorageError(
                f"{path} cannot be unpacked into {into} ({error.strerror}); "
                "free space or choose another folder"
            ) from error
        raise _damaged(path, error) from error
    except DAMAGED as error:
        raise _damaged(path, error) from error
    except RuntimeError as error:  # a password, or a compression that zipfile does not know
        raise CorpusError(
            f"{path} cannot be unpacked ({error}); put a zip or tar without a password in its place"
        ) from error


def _damaged(path: Path, error: Exception) -> CorpusError:
    return CorpusError(f"{path} cannot be unpacked ({error}); remove it and fetch it again")


def _unpack_tar(path: Path, into: Path) -> None:
    with tarfile.open(path) as archive:
        archive.extractall(into, filter="data")
        # The compressed stream's checksum comes after the last member, and is compared by whoever reads it.
        while archive.fileobj is not None and archive.fileobj.read(CHUNK_BYTES):
            pass


def _unpack_zip(path: Path, into: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise CorpusError(f"{path} has an unsafe member ({name}); do not trust it")
        archive.extractall(into)  # noqa: S202 (every name was looked at)


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _tag(partial).unlink(missing_ok=True)


def _tag(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.etag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        yield progress
