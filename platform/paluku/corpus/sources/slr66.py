"""OpenSLR SLR66: crowdsourced high-quality Telugu, multi-speaker (Google, 2019), CC BY-SA 4.0.

    sources:
      - kind: slr66
        folder: /data/slr66
        download: true        # te_in_female.zip and te_in_male.zip, about 1 GB, from openslr.org

Published layout: each zip holds `line_index.tsv` (file name without suffix, tab, sentence) and 48 kHz WAV
files `tef_XXXXX_NNNNNNNNNNN.wav` (female) or `tem_...` (male); XXXXX is the speaker. They are unpacked into
`te_in_female/` and `te_in_male/`. The index that lies beside the zips on the site (`line_index_female.tsv`)
is read too. He et al., "Open-source Multi-speaker Speech Corpora for Building Gujarati, Kannada, Malayalam,
Marathi, Tamil and Telugu Speech Synthesis Systems", LREC 2020. The site publishes no checksums.
"""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from paluku.corpus.download import Archive
from paluku.corpus.sources.published import PublishedFolder, published_tree
from paluku.corpus.sources.tree import Tree
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError

FILE_NAME = re.compile(r"(te[fm]_[0-9]+)_[0-9]+")
Gender = Literal["female", "male"]


class Slr66Config(PublishedFolder):
    """Settings of SLR66."""

    kind: Literal["slr66"] = "slr66"
    genders: tuple[Gender, ...] = Field(default=("female", "male"), min_length=1)


def archive_of(gender: Gender) -> Archive:
    """Where half of the corpus is published."""
    name = f"te_in_{gender}.zip"
    return Archive(
        url=f"https://www.openslr.org/resources/66/{name}",
        name=name,
        holds=f"te_in_{gender}",
        into=f"te_in_{gender}",
    )


class Slr66:
    """Telugu sentences read by volunteers."""

    name = "slr66"
    licence = "CC-BY-SA-4.0"

    def __init__(self, config: Slr66Config) -> None:
        self._config = config

    def iterate(self) -> Iterator[Utterance]:
        """All lines of the indexes, female speakers first, by file name.

        Raises:
            CorpusError: when the corpus is not there, or a line of an index does not fit.
        """
        archives = tuple(archive_of(gender) for gender in self._config.genders)
        tree = published_tree(self._config, archives)
        for gender in self._config.genders:
            yield from self._half(tree, gender)

    def _half(self, tree: Tree, gender: Gender) -> Iterator[Utterance]:
        below = f"te_in_{gender}"
        indexes = (f"{below}/line_index.tsv", f"{below}/line_index_{gender}.tsv", f"line_index_{gender}.tsv")
        index = next((name for name in indexes if tree.has(name)), None)
        if index is None:
            raise CorpusError(f"{tree} holds no {indexes[0]}; unpack {archive_of(gender).url} into {below}/")
        lines = dict(_entry(origin, line) for origin, line in tree.lines(index))
        for file_name in sorted(lines):
            speaker, text = lines[file_name]
            name = f"{below}/{file_name}.wav"
            yield Utterance(
                id=file_name,
                path=tree.path(name),
                text=text,
                language="te",
                speaker=f"slr66_{speaker}",
                gender=gender,
                source=self.name,
                licence=self.licence,
                duration_s=tree.duration_s(name),
            )


def _entry(origin: str, line: str) -> tuple[str, tuple[str, str]]:
    """File name, speaker and sentence. Some indexes of this family carry an empty or a third column."""
    fields = [field.strip() for field in line.split("\t") if field.strip()]
    match = FILE_NAME.fullmatch(fields[0]) if len(fields) >= 2 else None
    if match is None:
        raise CorpusError(f"{origin} is not `tef_SPEAKER_NUMBER<tab>sentence`; fetch the index again")
    return fields[0], (match[1], fields[-1])
