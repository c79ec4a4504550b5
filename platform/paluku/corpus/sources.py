"""Where utterances come from: recordings in a folder, and sentences that a synthesiser speaks.

A source only lists; nothing is decoded before a worker takes the item.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import soundfile
from pydantic import Field

from paluku.config import Config, resolve
from paluku.corpus.splits import fraction
from paluku.corpus.text import normalise
from paluku.corpus.turns import Turn
from paluku.errors import ConfigError, CorpusError

MANIFEST_NAME = "manifest.jsonl"
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
UNDETERMINED = "und"  # ISO 639-2


class Utterance(Config):
    """One utterance to be: a recording, when it has a `path`, or a `text` to be spoken by a `voice`."""

    id: str
    path: Path | None = None
    voice: str | None = None
    text: str | None = None
    language: str = UNDETERMINED
    speaker: str
    source: str
    licence: str = "unknown"
    duration_s: float = 0.0  # as far as it is known before decoding


class Source(Protocol):
    """Something that lists utterances, in an order that does not change between runs."""

    def utterances(self) -> Iterator[Utterance]:
        """All of them.

        Raises:
            CorpusError: when the place they come from is missing or broken.
        """
        ...


class ManifestRow(Config):
    """What is read of a `manifest.jsonl` row; other keys are the collection's own business."""

    model_config = Config.model_config | {"extra": "ignore"}

    path: str
    source: str
    speaker: str
    licence: str
    language: str = UNDETERMINED
    text: str | None = None
    duration_s: float = Field(default=0.0, ge=0)


class RecordingFolder:
    """A folder of audio files, described by `manifest.jsonl` (one object a line) where it has one.

    Without it every WAV, FLAC, OGG and MP3 below the folder is taken; a subfolder is a speaker, and a
    file at the top is a speaker of its own. `max_source_s` takes a seeded choice of about that many
    seconds from each of the collection's sources.
    """

    def __init__(self, folder: Path, max_source_s: float | None = None, seed: int = 0) -> None:
        self._folder = folder.resolve()
        self._max_source_s = max_source_s
        self._seed = seed

    def utterances(self) -> Iterator[Utterance]:
        """All recordings, by id.

        Raises:
            CorpusError: when the folder is missing or empty, or a row of its manifest does not fit.
        """
        if not self._folder.is_dir():
            raise CorpusError(f"recordings folder {self._folder} does not exist; give an existing folder")
        listed = list(self._listed() if (self._folder / MANIFEST_NAME).is_file() else self._found())
        if not listed:
            raise CorpusError(f"{self._folder} holds no recordings; add WAV, FLAC, OGG or MP3 files")
        yield from sorted(self._capped(listed), key=lambda utterance: utterance.id)

    def _listed(self) -> Iterator[Utterance]:
        manifest = self._folder / MANIFEST_NAME
        try:
            lines = manifest.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{manifest} cannot be read ({error}); it must be UTF-8 JSON lines") from error
        for number, line in enumerate(lines, 1):
            row = _manifest_row(line, f"{manifest}:{number}")
            yield Utterance(
                id=row.path,
                path=self._folder / row.path,
                text=normalise(row.text) if row.text else None,
                **row.model_dump(include={"language", "speaker", "source", "licence", "duration_s"}),
            )

    def _found(self) -> Iterator[Utterance]:
        for path in self._folder.rglob("*"):
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            name = path.relative_to(self._folder)
            speaker = str(name if name.parent == Path() else name.parent)
            yield Utterance(
                id=str(name),
                path=path,
                speaker=speaker,
                source=self._folder.name,
                duration_s=_duration_s(path),
            )

    def _capped(self, listed: list[Utterance]) -> Iterator[Utterance]:
        taken_s: dict[str, float] = {}
        for utterance in sorted(listed, key=lambda u: fraction(u.id, self._seed)):
            before_s = taken_s.get(utterance.source, 0.0)
            if self._max_source_s is None or before_s < self._max_source_s:
                taken_s[utterance.source] = before_s + utterance.duration_s
                yield utterance


class SpokenText:
    """Telugu sentences spoken by a synthesiser, voices in turn: `count` utterances."""

    def __init__(self, sentences: Sequence[tuple[str, str]], voices: Sequence[str], count: int) -> None:
        """`sentences` are pairs of text and licence."""
        self._sentences, self._voices, self._count = sentences, voices, count

    def utterances(self) -> Iterator[Utterance]:
        """Every sentence once, then every sentence again by its next voice, and so on."""
        for index in range(self._count):
            lap, place = divmod(index, len(self._sentences))
            text, licence = self._sentences[place]
            voice = self._voices[(place + lap) % len(self._voices)]
            yield Utterance(
                id=f"spoken/{index:06d}",
                text=text,
                voice=voice,
                language="te",
                speaker=voice,
                source="espeak-ng",
                licence=licence,
            )


def sentences_of(turns: Iterable[Turn]) -> list[tuple[str, str]]:
    """Questions and answers as sentences with their licence, each text once."""
    licences = {text: turn.licence for turn in turns for text in (turn.question, turn.answer)}
    return list(licences.items())


def _manifest_row(line: str, origin: str) -> ManifestRow:
    try:
        values: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{origin} is not JSON ({error}); mend or remove the line") from error
    try:
        return resolve(ManifestRow, values, origin)
    except ConfigError as error:
        raise CorpusError(f"{error}; mend or remove the line") from error


def _duration_s(path: Path) -> float:
    """From the header; a file without a readable one counts nothing here and is rejected when decoded."""
    try:
        return float(soundfile.info(path).duration)
    except soundfile.LibsndfileError:
        return 0.0
