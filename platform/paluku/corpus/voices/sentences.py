"""Sentences spoken by the cast, as a source of utterances: `kind: spoken`."""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from paluku.config import Config, load
from paluku.corpus.telugu import normalise_telugu
from paluku.corpus.text import normalise
from paluku.corpus.turns import shipped_turns
from paluku.corpus.utterance import Utterance
from paluku.corpus.voices.alignment import tokens
from paluku.corpus.voices.cast import Cast, CastConfig
from paluku.corpus.voices.port import Speech
from paluku.errors import ConfigError, CorpusError

# Columns of a TSV that are sentences to say.
_SPOKEN_COLUMNS = ("text", "sentence", "question", "answer")


class SpokenConfig(Config):
    """Sentences and who says them.

    A text is a TSV with a header, of which the columns text, sentence, question and answer are said,
    `licence` is kept, and rows with `held_out` yes are passed over; or a plain file with a sentence on each
    line. A folder stands for its TSV files.
    """

    kind: Literal["spoken"] = "spoken"
    name: str = "spoken"
    texts: tuple[Path, ...] = ()  # none: the turns that come with the package
    licence: str = "CC0-1.0"  # of texts that do not say
    language: str = "te"
    count: int = Field(default=1000, gt=0)
    voices: tuple[str, ...] = ()  # names of the cast; without: everybody but the held-out users
    cast: CastConfig = CastConfig()  # or the path of a YAML file with one

    @field_validator("cast", mode="before")
    @classmethod
    def _read(cls, cast: object) -> object:
        return load(CastConfig, cast) if isinstance(cast, (str, Path)) else cast


class _Sentence(NamedTuple):
    text: str
    licence: str


class Spoken:
    """Implements `sources.Source`: `count` utterances, sentences in order and voices in turn.

    Every sentence is said once before any is said by its next voice.
    """

    def __init__(self, config: SpokenConfig) -> None:
        self._config = config
        people = {**config.cast.reply, **config.cast.users}
        self._voices = config.voices or tuple(name for name in people if name not in config.cast.held_out)
        if unknown := [voice for voice in self._voices if voice not in people]:
            raise ConfigError(f"there is no voice {unknown[0]!r}; choose some of: {', '.join(people)}")
        self._people = people

    @property
    def name(self) -> str:
        """Of the source."""
        return self._config.name

    @property
    def licence(self) -> str:
        """Of texts that do not say; the engines' sound is free."""
        return self._config.licence

    def iterate(self) -> Iterator[Utterance]:
        """Texts and voices; nothing is spoken yet.

        Raises:
            CorpusError: when a file is missing, unreadable, or holds no sentence.
        """
        sentences = _sentences(self._config)
        for index in range(self._config.count):
            lap, place = divmod(index, len(sentences))
            voice = self._voices[(place + lap) % len(self._voices)]
            yield Utterance(
                id=f"{index:06d}",
                text=sentences[place].text,
                voice=voice,
                speaker=voice,
                gender=self._people[voice].gender,
                language=self._config.language,
                source=self.name,
                licence=sentences[place].licence,
            )


def speak_utterance(utterance: Utterance, cast: Cast) -> Speech:
    """Say an utterance that has no path: float32 `[S]` at the engine's rate, at the cast's level.

    Raises:
        AudioError: when the voice cannot say the text.
        ConfigError: when the voice is not in the cast.
        ServiceError: as `Cast.speak`.
    """
    assert utterance.path is None, f"{utterance.id} is a recording"
    assert utterance.text is not None, utterance.id
    assert utterance.voice is not None, utterance.id
    return cast.speak(utterance.text, utterance.voice)


def _sentences(config: SpokenConfig) -> list[_Sentence]:
    """All different sentences in the order of the files, as they are said."""
    texts = config.texts or (shipped_turns(),)
    files = [sorted(path.glob("*.tsv")) if path.is_dir() else [path] for path in texts]
    found = [sentence for path in itertools.chain(*files) for sentence in _read(path, config.licence)]
    # Numbers in words, which not every engine finds by itself.
    spelt = normalise_telugu if config.language == "te" else normalise
    licences: dict[str, str] = {}
    for sentence in found:
        licences.setdefault(spelt(sentence.text), sentence.licence)
    unique = [_Sentence(text, licence) for text, licence in licences.items() if tokens(text)]
    if not unique:
        raise CorpusError(f"no sentences in {', '.join(map(str, texts))}; name a TSV or a plain text file")
    return unique


def _read(path: Path, licence: str) -> list[_Sentence]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); name a file of sentences in UTF-8") from error
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    if path.suffix != ".tsv":
        return [_Sentence(line.strip(), licence) for line in lines]
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = [column for column in _SPOKEN_COLUMNS if column in (rows.fieldnames or ())]
    if not columns:
        raise CorpusError(f"{path} has no column named {', '.join(_SPOKEN_COLUMNS)}; give it a header line")
    return [
        _Sentence(row[column].strip(), row.get("licence") or licence)
        for row in rows
        if row.get("held_out") != "yes"
        for column in columns
        if (row[column] or "").strip()
    ]
