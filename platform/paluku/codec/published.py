"""Published weights of other people's codecs: found by name or path, fetched once, checked, licence shown.

A file fetched by name lies in `$PALUKU_WEIGHTS` (default `~/.cache/paluku/weights`) under the name its
publisher gave it, so that a machine without a network can be given it by hand. It appears there only
whole: what is fetched is written beside it, checked, and then renamed.
"""

import errno
import hashlib
import http.client
import os
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from paluku.config import Config
from paluku.errors import UNWRITABLE, CheckpointError, StorageError
from paluku.log import logger

FOLDER_VARIABLE = "PALUKU_WEIGHTS"
DEFAULT_FOLDER = Path("~/.cache/paluku/weights")
# No byte for so long means no network; a slow one still sends some.
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20
SHA256_DIGITS = 64

_log = logger(__name__)


class Weights(Config):
    """One published file."""

    name: str  # what a user asks for
    file: str = Field(pattern=r"^[^/]+$")  # as its publisher names it
    url: str
    licence: str
    # Hex digits, the whole hash or its beginning: some publishers tell eight digits, in the file's
    # name. Empty where nothing is known; then only the model's own loading tells a wrong file.
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{8,64})?$")
    size_bytes: int | None = Field(default=None, ge=1)


def weights_folder() -> Path:
    """Where published weights lie: `$PALUKU_WEIGHTS`, else `~/.cache/paluku/weights`."""
    return Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER).expanduser()


def find(name_or_path: str, known: Mapping[str, Weights]) -> Path:
    """The file of published weights, by a name in `known` or by its path; fetched when it is not here.

    A file under a name that is known (asked for by name, or a path that ends in it) must have that
    file's size and sha256. A path to a file of another name is taken at its word. The licence is logged.

    Raises:
        CheckpointError: when there is no such name or file, the file is another or damaged, or it
            cannot be fetched; says what was expected and where to put it by hand.
        StorageError: when the folder cannot be written: full, or read-only.
    """
    weights = known.get(name_or_path)
    if weights is None:
        path = _named_file(name_or_path, known)
        weights = next((each for each in known.values() if each.file == path.name), None)
    else:
        path = weights_folder() / weights.file
        if not path.is_file():
            _fetch(weights, path)
    if weights is None:
        _log.info("weights file=%s: no published one by its name; its licence is yours to know", path)
        return path
    if (mismatch := _mismatch(path, weights)) is not None:
        raise CheckpointError(
            f"{path} {mismatch}: it is damaged, cut off or another file; remove it, then run again or put "
            f"{weights.url} there by hand"
        )
    _log.info("weights name=%s file=%s licence=%r", weights.name, path, weights.licence)
    return path


def read_tensors(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: tensors, containers and plain values, and no code.

    Raises:
        CheckpointError: when the file is cut off, damaged, or no such file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} holds no weights that can be read ({reason}); it is cut off, damaged or another kind "
            "of file: remove it and fetch it again"
        ) from error


def _named_file(name_or_path: str, known: Mapping[str, Weights]) -> Path:
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    names = ", ".join(sorted(known)) or "none"
    raise CheckpointError(
        f"{name_or_path} is neither a file nor published weights that are known here (known: {names}); "
        "give one of these names or the path of a file"
    )


def _mismatch(path: Path, weights: Weights) -> str | None:
    """How a file differs from the published one, as far as that is known."""
    size = path.stat().st_size
    if weights.size_bytes is not None and size != weights.size_bytes:
        return f"has {size} bytes, {weights.name} has {weights.size_bytes}"
    if not weights.sha256:
        _log.info("weights name=%s: no sha256 is known, so the file is not checked", weights.name)
        return None
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual.startswith(weights.sha256):
        return None
    rest = "" if len(weights.sha256) == SHA256_DIGITS else "..."
    return f"has sha256 {actual}, {weights.name} has {weights.sha256}{rest}"


def _fetch(weights: Weights, path: Path) -> None:
    """Fetch to a file beside `path`, check it, and give it its name. Concurrent fetches do no harm."""
    _log.info("fetching %s from %s (licence: %s)", weights.name, weights.url, weights.licence)
    by_hand = f"put {weights.file} into {path.parent} by hand (or name its folder in ${FOLDER_VARIABLE})"
    try:
        with _beside(path) as partial:
            _download(weights, partial)
            if (mismatch := _mismatch(partial, weights)) is not None:
                raise CheckpointError(f"what {weights.url} gave {mismatch}: try again, or {by_hand}")
            partial.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise CheckpointError(
            f"{weights.name} is not at {path} and cannot be fetched from {weights.url} ({error}); "
            f"without a network, {by_hand}"
        ) from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, gone afterwards. Raises `StorageError` where one cannot write."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (*UNWRITABLE, errno.EEXIST, errno.ENOTDIR):
            raise
        raise StorageError(
            f"{path.parent} cannot be written ({error.strerror}); free space or name another folder in "
            f"${FOLDER_VARIABLE}"
        ) from error


def _download(weights: Weights, partial: Path) -> None:
    with urllib.request.urlopen(weights.url, timeout=TIMEOUT_S) as reply, partial.open("wb") as file:  # noqa: S310 (from the tables of known weights)
        said = reply.headers.get("Content-Length")
        total = int(said) if said else weights.size_bytes
        received = _copy(reply.read, file.write, weights.name, total)
    if total is not None and received < total:
        raise ConnectionError(f"it ended after {received} of {total} bytes")


def _copy(
    read: Callable[[int], bytes], write: Callable[[bytes], object], name: str, total: int | None
) -> int:
    """Copy to the end, with a bar on stderr; the number of bytes."""
    bar = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    received = 0
    with Progress(*bar, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        while chunk := read(CHUNK_BYTES):
            write(chunk)
            received += len(chunk)
            progress.advance(task, len(chunk))
    return received
