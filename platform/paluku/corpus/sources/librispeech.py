"""LibriSpeech: English audiobooks, 1,000 hours, 2,484 readers (Panayotov et al., 2015), CC BY 4.0.

    sources:
      - kind: librispeech
        folder: /data/librispeech
        subsets: [train-clean-100, dev-clean]
        download: true

Published layout: `LibriSpeech/SPEAKERS.TXT` (`;` begins a comment; reader | sex | subset | minutes | name),
`LibriSpeech/SUBSET/READER/CHAPTER/READER-CHAPTER-NNNN.flac`, and `READER-CHAPTER.trans.txt` beside them
(name, space, sentence in capitals without punctuation). https://www.openslr.org/12 has the archives;
the checksums are torchaudio's.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from paluku.corpus.download import Archive
from paluku.corpus.sources.published import PublishedFolder, published_tree
from paluku.corpus.sources.tree import Tree, gender_of
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError

Subset = Literal[
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
]
SHA256: dict[Subset, str] = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
TOP = "LibriSpeech"
SPEAKERS = "SPEAKERS.TXT"
SPEAKER_FIELDS = 5  # a name may hold more bars


class LibriSpeechConfig(PublishedFolder):
    """Settings of LibriSpeech; `folder` holds `LibriSpeech/` or the subsets' archives."""

    kind: Literal["librispeech"] = "librispeech"
    subsets: tuple[Subset, ...] = Field(default=("train-clean-100",), min_length=1)


def archive_of(subset: Subset) -> Archive:
    """Where a subset is published."""
    name = f"{subset}.tar.gz"
    url = f"https://www.openslr.org/resources/12/{name}"
    return Archive(url=url, name=name, holds=f"{TOP}/{subset}", checksum=SHA256[subset])


class LibriSpeech:
    """Chapters of audiobooks, cut at pauses by its makers."""

    name = "librispeech"
    licence = "CC-BY-4.0"

    def __init__(self, config: LibriSpeechConfig) -> None:
        self._config = config

    def iterate(self) -> Iterator[Utterance]:
        """Subset by subset, by name.

        Raises:
            CorpusError: when the corpus is not there, or a line of its metadata does not fit.
        """
        archives = tuple(archive_of(subset) for subset in self._config.subsets)
        tree = published_tree(self._config, archives, TOP, SPEAKERS)
        genders = dict(_reader(origin, line) for origin, line in tree.lines(SPEAKERS) if line[0] != ";")
        for subset in self._config.subsets:
            yield from self._subset(tree, subset, genders)

    def _subset(self, tree: Tree, subset: Subset, genders: dict[str, str | None]) -> Iterator[Utterance]:
        transcripts = tree.files(subset, ".trans.txt")
        if not transcripts:
            raise CorpusError(f"{tree}/{subset} holds no transcripts; fetch {archive_of(subset).url} again")
        for transcript in transcripts:
            folder = PurePosixPath(transcript).parent
            for origin, line in tree.lines(transcript):
                name, _, text = line.partition(" ")
                reader = name.partition("-")[0]
                if not text or reader not in genders:
                    raise CorpusError(
                        f"{origin} is no sentence of a reader in {SPEAKERS}; fetch the corpus again"
                    )
                yield Utterance(
                    id=name,
                    path=tree.path(f"{folder}/{name}.flac"),
                    text=text,
                    language="en",
                    speaker=f"librispeech_{reader}",
                    gender=genders[reader],
                    source=self.name,
                    licence=self.licence,
                    duration_s=tree.duration_s(f"{folder}/{name}.flac"),
                )


def _reader(origin: str, line: str) -> tuple[str, str | None]:
    fields = [field.strip() for field in line.split("|", SPEAKER_FIELDS - 1)]
    if len(fields) != SPEAKER_FIELDS or gender_of(fields[1]) is None:
        raise CorpusError(
            f"{origin} is not `reader | F or M | subset | minutes | name`; fetch the corpus again"
        )
    return fields[0], gender_of(fields[1])
