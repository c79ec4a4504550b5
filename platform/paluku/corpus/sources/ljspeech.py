"""LJ Speech 1.1: one English reader, 24 hours (Keith Ito, 2017), public domain.

    sources:
      - kind: ljspeech
        folder: /data/ljspeech
        download: true        # LJSpeech-1.1.tar.bz2, 2.6 GB

Published layout: `LJSpeech-1.1/metadata.csv` with three fields separated by `|` and never quoted (name,
transcription, transcription with numbers and abbreviations written out) and `LJSpeech-1.1/wavs/NAME.wav`.
The third field is taken. https://keithito.com/LJ-Speech-Dataset/; the checksum is torchaudio's.
"""

from collections.abc import Iterator
from typing import Literal

from paluku.corpus.download import Archive
from paluku.corpus.sources.published import PublishedFolder, published_tree
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError

TOP = "LJSpeech-1.1"
METADATA = "metadata.csv"
ARCHIVE = Archive(
    url="https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
    name="LJSpeech-1.1.tar.bz2",
    holds=TOP,
    checksum="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
)
FIELDS = 3


class LjSpeechConfig(PublishedFolder):
    """Settings of LJ Speech; `folder` holds `LJSpeech-1.1/` or its archive."""

    kind: Literal["ljspeech"] = "ljspeech"


class LjSpeech:
    """One voice, read from books."""

    name = "ljspeech"
    licence = "LicenseRef-public-domain"

    def __init__(self, config: LjSpeechConfig) -> None:
        self._config = config

    def iterate(self) -> Iterator[Utterance]:
        """All lines of the metadata, by name.

        Raises:
            CorpusError: when the corpus is not there, or a line of the metadata does not fit.
        """
        tree = published_tree(self._config, (ARCHIVE,), TOP, METADATA)
        texts: dict[str, str] = {}
        for origin, line in tree.lines(METADATA):
            fields = line.split("|")
            if len(fields) != FIELDS or not fields[0]:
                raise CorpusError(
                    f"{origin} has {len(fields)} fields, not {FIELDS}; fetch the metadata again"
                )
            texts[fields[0]] = fields[2]
        for name in sorted(texts):
            yield Utterance(
                id=name,
                path=tree.path(f"wavs/{name}.wav"),
                text=texts[name],
                language="en",
                speaker="ljspeech",
                gender="female",
                source=self.name,
                licence=self.licence,
                duration_s=tree.duration_s(f"wavs/{name}.wav"),
            )
