"""Data sets of the Hugging Face Hub, streamed once into a folder with a manifest, and listed from there.

Rows are read with `datasets` (streaming, `Audio(decode=False)`): the bytes of each recording are kept as they
were published, in `audio/NNNNNN.*`, and `manifest.jsonl` gets a line with their sha256. A fetch that is
stopped goes on after the last whole row. Without a network, the data set's own files (`data/*.parquet`) may
be put into `FOLDER/published` by hand: they are read by the same code.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from paluku.config import Config
from paluku.corpus.download import NotFetched
from paluku.corpus.media import duration_s
from paluku.corpus.sources.manifest import MANIFEST_NAME, ManifestConfig, ManifestSource, manifest_row
from paluku.corpus.sources.tree import CorpusFolder
from paluku.corpus.storage import Place
from paluku.corpus.utterance import Utterance
from paluku.errors import ConfigError, CorpusError

PUBLISHED = "published"
COMPLETE_NAME = "complete.json"
# `huggingface_hub` tries each request five times by itself.
TRIES = 2
PAUSE_S = 5.0

Row = dict[str, Any]
# A row of the data set, and how messages call it, to what its line in the manifest says besides the file.
Describe = Callable[[Row, str], Row]


class HubDataset(Config):
    """One split of a data set."""

    repository: str
    subset: str | None = None  # the data set's "config": a language, where it has several
    split: str = "train"
    revision: str | None = None  # a commit, so that a later fetch gives the same

    def __str__(self) -> str:
        return "/".join(part for part in (self.repository, self.subset, self.split) if part)


class Finished(Config):
    """What `complete.json` says once every row is there."""

    dataset: HubDataset
    rows: int


class HubFolder(CorpusFolder):
    """A corpus that is fetched from the Hub into `folder`: a local one, on a cluster a disk of all nodes."""

    download: bool = False
    revision: str | None = None


OpenRows = Callable[[HubDataset, int], Iterator[Row]]


def hub_rows(dataset: HubDataset, skip: int) -> Iterator[Row]:
    """Rows as published, from number `skip` on; class labels as their names, `audio` as bytes and file name.

    Raises:
        OSError: and httpx's errors, when the Hub cannot be reached.
        ValueError: when the data set has no such split or subset, or no column `audio`.
    """
    import datasets  # here, because it brings torch with it: only a fetch pays

    stream = datasets.load_dataset(
        dataset.repository, dataset.subset, split=dataset.split, revision=dataset.revision, streaming=True
    )
    features = stream.features or {}
    labels = {name: kind for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    for row in stream.cast_column("audio", datasets.Audio(decode=False)).skip(skip):
        yield row | {name: kind.int2str(row[name]) for name, kind in labels.items() if row[name] is not None}


def listed(
    config: HubFolder, dataset: HubDataset, folder: str, describe: Describe, open_rows: OpenRows = hub_rows
) -> Iterator[Utterance]:
    """The utterances of a split, fetched into `folder` first where they are not there yet.

    Raises:
        CorpusError: when they are not there and cannot be fetched, or a row lacks what is needed.
    """
    place = Place.of(folder)
    if place.local is not None:
        fetch(
            dataset,
            place.local,
            describe,
            download=config.download,
            only_look=config.only_look,
            open_rows=open_rows,
        )
    elif not place.exists(COMPLETE_NAME):
        raise CorpusError(
            f"{place} holds no fetched {dataset}; fetch it into a local folder and copy that there"
        )
    yield from ManifestSource(ManifestConfig(folder=folder)).iterate()


def fetch(
    dataset: HubDataset,
    folder: Path,
    describe: Describe,
    *,
    download: bool,
    only_look: bool = False,
    open_rows: OpenRows = hub_rows,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring every row into `folder`; one that is complete is left as it is, without a look at the network.

    Raises:
        CorpusError: when the folder is another data set's, or the rows cannot be had.
        NotFetched: when they are still to be brought, and this shall `only_look`.
    """
    complete = folder / COMPLETE_NAME
    if complete.is_file():
        return _check_same(dataset, complete)
    origin = dataset
    if (folder / PUBLISHED).is_dir():
        origin = dataset.model_copy(
            update={"repository": str(folder / PUBLISHED), "subset": None, "revision": None}
        )
    elif not download:
        raise CorpusError(
            f"{folder} holds no fetched {dataset}; set download: true, or put the data set's files into "
            f"{folder / PUBLISHED}"
        )
    if only_look:
        raise NotFetched(f"{origin} to be fetched")
    rows = _bring(origin, folder, describe, open_rows, sleep)
    finished = Finished(dataset=dataset, rows=rows)
    Place.of(folder).write_bytes(COMPLETE_NAME, finished.to_json().encode())
    return None


def _bring(
    dataset: HubDataset, folder: Path, describe: Describe, open_rows: OpenRows, sleep: Callable[[float], None]
) -> int:
    """Row by row, with tries; the number of rows."""
    import httpx  # `huggingface_hub`'s client: its errors are no OSErrors

    (folder / "audio").mkdir(parents=True, exist_ok=True)
    fruitless = 0
    with _progress() as progress:
        task = progress.add_task(str(dataset))
        while True:
            have = _whole_rows(folder)
            progress.update(task, completed=have)
            try:
                return _append(
                    open_rows(dataset, have), have, folder, describe, lambda: progress.advance(task)
                )
            except (OSError, httpx.HTTPError) as error:
                fruitless = 1 if _whole_rows(folder) > have else fruitless + 1
                if fruitless >= TRIES:
                    raise CorpusError(_unreachable(dataset, folder, error)) from error
                sleep(PAUSE_S)
            except ValueError as error:
                raise CorpusError(
                    f"{dataset} cannot be read ({error}); check the name, subset and split"
                ) from error


def _progress() -> Progress:
    label = TextColumn("{task.description}: {task.completed} rows", markup=False)
    columns = (SpinnerColumn(), label, TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _unreachable(dataset: HubDataset, folder: Path, error: Exception) -> str:
    return (
        f"https://huggingface.co/datasets/{dataset.repository} cannot be fetched ({error}); "
        f"put the data set's files into {folder / PUBLISHED}, or try again: {folder} is continued"
    )


def _append(
    rows: Iterator[Row], have: int, folder: Path, describe: Describe, advance: Callable[[], object]
) -> int:
    number = have
    with (folder / MANIFEST_NAME).open("a", encoding="utf-8") as manifest:
        for number, row in enumerate(rows, have + 1):
            _keep(row, number - 1, folder, manifest, describe)
            advance()
    return number


def _keep(row: Row, index: int, folder: Path, manifest: TextIO, describe: Describe) -> None:
    origin = f"row {index} of {folder.name}"
    sound, suffix = _sound(row, origin)
    name = f"audio/{index:06d}{suffix}"
    (folder / name).write_bytes(sound)
    about = {"path": name, "sha256": hashlib.sha256(sound).hexdigest(), "bytes": len(sound)}
    about |= {"duration_s": round(duration_s(str(folder / name)), 3)} | describe(row, origin)
    line = json.dumps(about, ensure_ascii=False)
    manifest_row(line, origin)  # a row that could not be listed is refused now, not after hours
    manifest.write(line + "\n")
    manifest.flush()


def _sound(row: Row, origin: str) -> tuple[bytes, str]:
    """A recording's bytes and the suffix of its name; rows of some data sets only say where it lies."""
    audio = row.get("audio") or {}
    path, data = str(audio.get("path") or ""), audio.get("bytes")
    if data is None and path:
        import fsspec  # comes with `datasets`

        filesystem, name = fsspec.url_to_fs(path)
        data = filesystem.cat_file(name)
    if not data:
        raise CorpusError(f"{origin} has no sound; the data set needs a column `audio`")
    return data, PurePosixPath(path.partition("::")[0]).suffix.lower() or ".wav"


def _whole_rows(folder: Path) -> int:
    """How many rows are whole; what a killed fetch left after them is cut off."""
    manifest = folder / MANIFEST_NAME
    if not manifest.exists():
        return 0
    count, length = 0, 0
    with manifest.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or not _is_whole(line, folder):
                break
            count, length = count + 1, length + len(line)
    with manifest.open("r+b") as file:
        file.truncate(length)
    return count


def _is_whole(line: bytes, folder: Path) -> bool:
    try:
        row = manifest_row(line.decode(), "")
        size = json.loads(line)["bytes"]
    except (CorpusError, ValueError, KeyError):  # damaged: what it said, and all behind it, is fetched again
        return False
    sound = folder / row.path
    return sound.is_file() and sound.stat().st_size == size


def _check_same(dataset: HubDataset, complete: Path) -> None:
    try:
        held = Finished.from_file(complete).dataset
    except ConfigError as error:
        raise CorpusError(f"{error}; or remove it to have the rows checked again") from error
    if held != dataset:
        raise CorpusError(
            f"{complete.parent} holds {held} (revision {held.revision}), "
            f"not {dataset} (revision {dataset.revision}); give another folder"
        )
