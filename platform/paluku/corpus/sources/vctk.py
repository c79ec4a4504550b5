"""VCTK 0.92: 110 English speakers with many accents (Yamagishi, Veaux, MacDonald, 2019), CC BY 4.0.

    sources:
      - kind: vctk
        folder: /data/vctk
        microphone: mic1
        download: true        # VCTK-Corpus-0.92.zip, 11 GB

Published layout: `wav48_silence_trimmed/pXXX/pXXX_NNN_mic1.flac` (48 kHz; mic2 is missing for p280 and p315),
`txt/pXXX/pXXX_NNN.txt` (none for p315) and `speaker-info.txt` (columns by spaces: ID, age, gender, accent,
region). https://doi.org/10.7488/ds/2645; the checksum is torchaudio's.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from paluku.corpus.download import Archive
from paluku.corpus.sources.published import PublishedFolder, published_tree
from paluku.corpus.sources.tree import Tree, gender_of
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError

SOUND = "wav48_silence_trimmed"
SPEAKERS = "speaker-info.txt"
TOP = "VCTK-Corpus-0.92"
ARCHIVE = Archive(
    url="https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
    name="VCTK-Corpus-0.92.zip",
    holds=TOP,
    into=TOP,
    checksum="f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
)


class VctkConfig(PublishedFolder):
    """Settings of VCTK; `folder` holds `VCTK-Corpus-0.92/` or its archive."""

    kind: Literal["vctk"] = "vctk"
    microphone: Literal["mic1", "mic2"] = "mic1"


class Vctk:
    """Newspaper sentences, read."""

    name = "vctk"
    licence = "CC-BY-4.0"

    def __init__(self, config: VctkConfig) -> None:
        self._config = config

    def iterate(self) -> Iterator[Utterance]:
        """All recordings of the microphone, by name.

        Raises:
            CorpusError: when the corpus is not there, or a speaker is not in `speaker-info.txt`.
        """
        tree = published_tree(self._config, (ARCHIVE,), TOP, SPEAKERS)
        genders = _genders(tree)
        recordings = tree.files(SOUND, f"_{self._config.microphone}.flac")
        if not recordings:
            raise CorpusError(
                f"{tree}/{SOUND} holds no {self._config.microphone} files; unpack {ARCHIVE.url} again"
            )
        texts = set(tree.files("txt", ".txt"))
        for recording in recordings:
            speaker = PurePosixPath(recording).parent.name
            if speaker not in genders:
                raise CorpusError(
                    f"{tree}/{SPEAKERS} does not tell of {speaker}, who spoke {recording}; add a line"
                )
            name = PurePosixPath(recording).stem.removesuffix(f"_{self._config.microphone}")
            text = f"txt/{speaker}/{name}.txt"
            yield Utterance(
                id=name,
                path=tree.path(recording),
                text=tree.text(text).strip() if text in texts else None,
                language="en",
                speaker=f"vctk_{speaker}",
                gender=genders[speaker],
                source=self.name,
                licence=self.licence,
                duration_s=tree.duration_s(recording),
            )


def _genders(tree: Tree) -> dict[str, str | None]:
    lines = list(tree.lines(SPEAKERS))
    genders: dict[str, str | None] = {}
    for origin, line in lines[1:]:
        fields = line.split()
        if len(fields) < 3 or gender_of(fields[2]) is None:
            raise CorpusError(f"{origin} is not `ID AGE GENDER ...` with F or M; fetch the corpus again")
        genders[fields[0]] = gender_of(fields[2])
    return genders
