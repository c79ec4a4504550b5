"""A plain folder of audio or video files: a subfolder is a speaker, with all that lies below it.

    sources:
      - kind: folder
        folder: /data/interviews       # or s3://bucket/interviews
        name: interviews               # default: the folder's own name
        language: te
        licence: CC-BY-4.0

Every file whose name ends as audio or video does (`media.MEDIA_SUFFIXES`) is taken; one at the top is a
speaker of its own. In `reader1/chapter3/a.flac` the speaker is `reader1`; with `speaker_depth: 2` it is
`reader1/chapter3`. A file of more than `longest_s` is listed as stretches, so that no worker holds hours.
A folder that has a `manifest.jsonl` is read by it instead (see `manifest`): where a line has no `source`,
`language` or `licence`, it is `name`, `language` and `licence` of the settings; what a line says wins.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from paluku.corpus.media import MEDIA_SUFFIXES
from paluku.corpus.sources.manifest import MANIFEST_NAME, ManifestConfig, ManifestSource
from paluku.corpus.sources.tree import CorpusFolder, Tree
from paluku.corpus.utterance import UNDETERMINED, Utterance
from paluku.errors import CorpusError

# A cut that does not look at the sound; at half an hour it harms one utterance in several hundred.
LONGEST_S = 1800.0


class FolderConfig(CorpusFolder):
    """Settings of a plain folder."""

    kind: Literal["folder"] = "folder"
    name: str | None = None
    language: str = UNDETERMINED
    licence: str = "unknown"
    speaker_depth: int = Field(default=1, ge=1)  # how many folders of a file's path name its speaker
    longest_s: float = Field(default=LONGEST_S, gt=0, le=7200)


class FolderSource:
    """The audio and video files below a folder, by name."""

    def __init__(self, config: FolderConfig) -> None:
        self._config, self._tree = config, Tree(config.folder)

    @property
    def name(self) -> str:
        """As the settings say, or the folder's own."""
        return self._config.name or PurePosixPath(str(self._tree).partition("?")[0]).name

    @property
    def licence(self) -> str:
        """As the settings say: the files do not tell."""
        return self._config.licence

    def iterate(self) -> Iterator[Utterance]:
        """All files, sorted by name; those that cannot be read are listed too, for the worker to reject.

        Raises:
            CorpusError: when the folder is missing or holds no audio or video.
        """
        local = self._tree.place.local
        if local is not None and not local.is_dir():
            raise CorpusError(f"recordings folder {self._tree} does not exist; give an existing folder")
        if self._tree.has(MANIFEST_NAME):
            yield from ManifestSource(ManifestConfig(folder=self._config.folder), self._defaults()).iterate()
            return
        names = [n for n in self._tree.files() if PurePosixPath(n).suffix.lower() in MEDIA_SUFFIXES]
        if not names:
            raise CorpusError(
                f"{self._tree} holds no recordings; add audio or video files (WAV, FLAC, MP4, ...)"
            )
        for name in names:
            yield from self._stretches(name)

    def _defaults(self) -> dict[str, str]:
        """What the settings were given to say of every line of a manifest."""
        given = self._config.model_dump(include={"name", "language", "licence"}, exclude_unset=True)
        return {
            "source" if key == "name" else key: value for key, value in given.items() if value is not None
        }

    def _stretches(self, name: str) -> Iterator[Utterance]:
        whole = self._whole(name)
        if whole.duration_s <= self._config.longest_s:
            yield whole
            return
        count = -int(-whole.duration_s // self._config.longest_s)
        length_s = whole.duration_s / count
        for index in range(count):
            start_s, last = index * length_s, index == count - 1
            end_s = None if last else start_s + length_s
            about = {
                "id": f"{name}@{start_s:07.1f}",
                "start_s": start_s,
                "end_s": end_s,
                "duration_s": length_s,
            }
            yield whole.model_copy(update=about)

    def _whole(self, name: str) -> Utterance:
        parents = PurePosixPath(name).parts[:-1][: self._config.speaker_depth]
        return Utterance(
            id=name,
            path=self._tree.path(name),
            speaker="/".join(parents) or name,
            source=self.name,
            licence=self.licence,
            language=self._config.language,
            duration_s=self._tree.duration_s(name),
        )
