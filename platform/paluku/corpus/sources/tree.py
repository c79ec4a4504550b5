"""A corpus as it lies in its folder, local or in an object store: names below it use `/`."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from paluku.config import Config
from paluku.corpus.media import duration_s
from paluku.corpus.storage import AnyPlace, Place
from paluku.errors import CorpusError


class CorpusFolder(Config):
    """What the settings of every corpus of recordings share."""

    folder: AnyPlace
    # A choice by the seed of about that much, of each source that the corpus names.
    max_source_s: float | None = Field(default=None, gt=0)
    seed: int = 0
    # Of its recordings those in these languages; none are all. Left out of a recipe that has none.
    languages: tuple[str, ...] = Field(default=(), exclude_if=lambda given: not given)
    # Of a dry run: what is not there is neither fetched nor unpacked, but `NotFetched`. No setting of a file.
    only_look: bool = Field(default=False, exclude=True)


class Tree:
    """The files of a corpus, read only."""

    def __init__(self, folder: "str | Place") -> None:
        self.place = Place.of(folder)

    def __truediv__(self, name: str) -> "Tree":
        return Tree(self.place / name) if name else self

    def __str__(self) -> str:
        return str(self.place)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self.place.exists(name)

    def holds(self, below: str) -> bool:
        """Whether there is a folder of this name with anything in it."""
        if self.place.local:
            return (self.place.local / below).is_dir()
        return bool(self.place.list(below, recursive=True))

    def path(self, name: str) -> str:
        """What an utterance carries to be opened by a worker."""
        return str(self.place.local / name) if self.place.local else (self.place / name).where

    def files(self, below: str = "", suffix: str = "") -> list[str]:
        """All names below a folder, however deep, sorted."""
        return self.place.list(below, suffix, recursive=True)

    def duration_s(self, name: str) -> float:
        """From the header of a local file; else 0."""
        return duration_s(self.path(name))

    def text(self, name: str) -> str:
        """A whole text file.

        Raises:
            CorpusError: when it is missing or is not UTF-8.
        """
        try:
            return self.place.read_bytes(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise CorpusError(f"{self.place.named(name)} is not UTF-8 ({error}); fetch it again") from error

    def lines(self, name: str) -> Iterator[tuple[str, str]]:
        """Lines that are not blank, each with where it stands (`file:line`) for messages.

        Only a line feed ends a line: sentences may hold other separators of Unicode.

        Raises:
            CorpusError: as `text`.
        """
        for number, line in enumerate(self.text(name).split("\n"), 1):
            if line.strip():
                yield f"{self.place.named(name)}:{number}", line.rstrip("\r")

    def table(self, name: str, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
        """Rows of a tab-separated file with a header, as columns by name; nothing is quoted.

        Raises:
            CorpusError: as `text`; when a needed column is missing, or a row has too few fields.
        """
        lines = self.lines(name)
        origin, header = next(lines, (self.place.named(name), ""))
        columns = header.split("\t")
        missing = [column for column in needed if column not in columns]
        if missing:
            raise CorpusError(
                f"{origin} has no column {', '.join(missing)}; its first line must name the columns"
            )
        for origin, line in lines:
            fields = line.split("\t")
            if len(fields) != len(columns):
                raise CorpusError(
                    f"{origin} has {len(fields)} fields, not {len(columns)}; mend or remove the line"
                )
            yield origin, dict(zip(columns, fields, strict=True))


def first_held(tree: Tree, names: tuple[str, ...], what: str) -> Tree:
    """The tree itself or the folder in it that the published archive makes: where `what` lies.

    Raises:
        CorpusError: when `what` is in none of them.
    """
    for name in ("", *names):
        if (tree / name).has(what):
            return tree / name
    raise CorpusError(f"{tree} holds no {what}; give the folder that the corpus was unpacked into")


def gender_of(letter: Any) -> str | None:
    """`female`, `male` or none, from what corpora write."""
    word = str(letter or "").strip().lower()
    if word in {"f", "female", "female_feminine"}:
        return "female"
    return "male" if word in {"m", "male", "male_masculine"} else None
