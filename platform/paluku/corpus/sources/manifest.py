"""Recordings that a JSONL manifest describes, one object a line.

    sources:
      - kind: manifest
        folder: /data/speech          # or s3://bucket/speech; paths in the manifest are relative to it
        file: manifest.jsonl
        max_source_s: 3600            # of each source that the manifest names

A line has `path` (relative and below the folder, absolute, or a URI), `source`, `speaker` and `licence`, and
may have `id` (default: the path; unique in its source), `language`, `gender`, `text`, `duration_s`, and
`start_s` and `end_s` of a stretch. Other keys are the collection's own, null says nothing.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from paluku.config import Config, Model, resolve
from paluku.corpus.sources.tree import CorpusFolder, Tree, gender_of
from paluku.corpus.storage import is_uri
from paluku.corpus.utterance import UNDETERMINED, Utterance
from paluku.errors import ConfigError, CorpusError

MANIFEST_NAME = "manifest.jsonl"


class ManifestConfig(CorpusFolder):
    """Settings of a collection with a manifest."""

    kind: Literal["manifest"] = "manifest"
    file: str = MANIFEST_NAME


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, escaped
        raise ValueError("it has half of a character (a lone surrogate)") from error
    return text


def _openable(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError("it must name a file")
    if not _is_placed(path) and _leaves(path):
        raise ValueError("it leaves the manifest's folder; give an absolute path or a URI")
    return path


def _is_placed(path: str) -> bool:
    return is_uri(path) or path.startswith("/")


def _leaves(path: str) -> bool:
    depth = 0
    for part in PurePosixPath(path).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


Words = Annotated[str, AfterValidator(_storable)]


class ManifestRow(Config):
    """What is read of a line."""

    # JSON knows 1e999 but no infinity: what is kept could not be read again.
    model_config = Config.model_config | {"extra": "ignore", "allow_inf_nan": False}

    path: Annotated[Words, AfterValidator(_openable)]
    id: Words | None = None
    source: Words
    speaker: Words
    licence: Words
    language: Words = UNDETERMINED
    gender: Words | None = None
    text: Words | None = None
    start_s: float = Field(default=0.0, ge=0)
    end_s: float | None = Field(default=None, gt=0)
    duration_s: float = Field(default=0.0, ge=0)


class ManifestSource:
    """The recordings of one manifest, by id; `defaults` are for lines that do not say."""

    def __init__(self, config: ManifestConfig, defaults: Mapping[str, str] | None = None) -> None:
        self._tree, self._file, self._defaults = Tree(config.folder), config.file, defaults or {}

    @property
    def name(self) -> str:
        """The folder's; each utterance carries the source that its line names."""
        return PurePosixPath(str(self._tree).partition("?")[0]).name

    @property
    def licence(self) -> str:
        """Each line says its own."""
        return "unknown"

    def iterate(self) -> Iterator[Utterance]:
        """All of them, sorted by id.

        Raises:
            CorpusError: when the manifest is missing or empty, a line does not fit, or an id comes twice.
        """
        by_id: dict[tuple[str, str], Utterance] = {}
        for origin, line in self._tree.lines(self._file):
            found = self._utterance(manifest_row(line, origin, self._defaults), origin)
            if by_id.setdefault((found.id, found.source), found) is not found:
                raise CorpusError(
                    f"{origin} repeats {found.id} of {found.source}; give one of them an `id` of its own"
                )
        if not by_id:
            raise CorpusError(f"{self._tree}/{self._file} lists nothing; add a line for each recording")
        yield from (by_id[name] for name in sorted(by_id))

    def _utterance(self, row: ManifestRow, origin: str) -> Utterance:
        path = row.path if _is_placed(row.path) else self._tree.path(row.path)
        about = {"path": path, "id": row.id or _id_of(row), "gender": gender_of(row.gender)}
        values = row.model_dump() | about
        return _fitting(Utterance, values, origin)


def manifest_row(line: str, origin: str, defaults: Mapping[str, str] | None = None) -> ManifestRow:
    """One line; `defaults` for keys that it does not have, or has as null.

    Raises:
        CorpusError: when it is not JSON or does not fit; `origin` says where it stands.
    """
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError
        raise CorpusError(f"{origin} is not JSON ({error}); mend or remove the line") from error
    if isinstance(values, dict):
        said = {key: value for key, value in values.items() if value is not None}
        values = {**(defaults or {}), **said}
    return _fitting(ManifestRow, values, origin)


def _id_of(row: ManifestRow) -> str:
    return f"{row.path}@{row.start_s:.3f}" if row.start_s else row.path


def _fitting(model: type[Model], values: object, origin: str) -> Model:
    try:
        return resolve(model, values, origin)
    except ConfigError as error:
        raise CorpusError(f"{error}; mend or remove the line") from error
