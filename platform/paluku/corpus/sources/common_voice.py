"""Mozilla Common Voice: sentences read by volunteers, CC0 1.0. A release as an archive, or from the Hub.

    sources:
      - kind: common_voice              # the release, fetched by hand after a login at
        folder: /data/common_voice      # https://datacollective.mozillafoundation.org
        archive: cv-corpus-23.0-2025-09-05-te.tar.gz
        locale: te
        splits: [validated]
      - kind: common_voice              # or a copy in the same columns on the Hugging Face Hub
        folder: /data/common_voice_hub
        repository: OWNER/common_voice_te
        download: true

Published layout: `RELEASE/te/clips/*.mp3`, and `RELEASE/te/{train,dev,test,validated,other,invalidated}.tsv`
with the columns client_id, path, sentence, up_votes, down_votes, age, gender, locale and, later, more;
`clip_durations.tsv` (clip, duration[ms]) where the release has it. The archive is unpacked where it lies.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from paluku.corpus.download import Archive, provide
from paluku.corpus.sources.huggingface import HubDataset, HubFolder, OpenRows, Row, hub_rows, listed
from paluku.corpus.sources.tree import Tree, first_held, gender_of
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError

Split = Literal["train", "dev", "test", "validated", "other", "invalidated"]
# The Hub's copies call it so.
HUB_SPLITS = {"dev": "validation"}
PLACE = "https://datacollective.mozillafoundation.org"
UNPACKED = "unpacked"
# A client is named by 128 hex digits; these tell a hundred million apart.
CLIENT_DIGITS = 16


class CommonVoiceConfig(HubFolder):
    """Settings of Common Voice; without a `repository`, `folder` holds a release."""

    kind: Literal["common_voice"] = "common_voice"
    locale: str = "te"
    splits: tuple[Split, ...] = Field(default=("validated",), min_length=1)
    archive: str | None = None
    repository: str | None = None
    subset: str | None = None  # of the repository; often the locale


class CommonVoice:
    """Crowd-read sentences; speakers are known by a hash only."""

    name = "common_voice"
    licence = "CC0-1.0"

    def __init__(self, config: CommonVoiceConfig, open_rows: OpenRows = hub_rows) -> None:
        self._config, self._open_rows = config, open_rows

    def iterate(self) -> Iterator[Utterance]:
        """The splits in turn, each clip once.

        Raises:
            CorpusError: when the release or the rows are not there, or one does not fit.
        """
        seen: set[str] = set()
        for split in self._config.splits:
            for utterance in self._from_hub(split) if self._config.repository else self._from_release(split):
                if utterance.id not in seen:
                    seen.add(utterance.id)
                    yield utterance

    def _from_release(self, split: Split) -> Iterator[Utterance]:
        tree = self._release(split)
        durations = _durations(tree)
        about = {"source": self.name, "licence": self.licence, "language": self._config.locale}
        rows = tree.table(f"{split}.tsv", ("client_id", "path", "sentence", "gender"))
        described = {row["path"]: self._describe(row, origin) for origin, row in rows}
        for clip in sorted(described):
            name = f"clips/{clip}"
            seconds = durations.get(clip) or tree.duration_s(name)
            values = described[clip] | about | {"path": tree.path(name), "duration_s": seconds}
            yield Utterance.model_validate(values)

    def _release(self, split: Split) -> Tree:
        tree, locale = Tree(self._config.folder), self._config.locale
        local = tree.place.local
        if local is not None and self._config.archive:
            archive = Archive(url=PLACE, name=self._config.archive, holds=UNPACKED, into=UNPACKED)
            provide((archive,), local, download=False, only_look=self._config.only_look)
        releases = sorted(local.glob(f"*/{locale}")) + sorted(local.glob(f"*/*/{locale}")) if local else []
        folders = (locale, *(path.relative_to(local).as_posix() for path in releases if local))
        return first_held(tree, folders, f"{split}.tsv")

    def _from_hub(self, split: Split) -> Iterator[Utterance]:
        config = self._config
        assert config.repository is not None
        dataset = HubDataset(
            repository=config.repository,
            subset=config.subset,
            split=HUB_SPLITS.get(split, split),
            revision=config.revision,
        )
        about = {"source": self.name, "licence": self.licence, "language": config.locale}
        yield from listed(
            config,
            dataset,
            Tree(config.folder).path(split),
            lambda row, origin: self._describe(row, origin) | about,
            self._open_rows,
        )

    def _describe(self, row: Row, origin: str) -> Row:
        client, clip, sentence = row.get("client_id"), row.get("path"), row.get("sentence")
        if not client or not clip or not sentence:
            raise CorpusError(f"{origin} lacks client_id, path or sentence; is it Common Voice?")
        if row.get("locale", self._config.locale) != self._config.locale:
            raise CorpusError(
                f"{origin} is {row['locale']}, not {self._config.locale}; set locale, or another folder"
            )
        return {
            "id": PurePosixPath(str(clip)).stem,
            "speaker": f"common_voice_{client[:CLIENT_DIGITS]}",
            "gender": gender_of(row.get("gender")),
            "text": sentence,
        }


def _durations(tree: Tree) -> dict[str, float]:
    """Seconds by clip; empty where the release does not tell."""
    name = "clip_durations.tsv"
    if not tree.has(name):
        return {}
    seconds: dict[str, float] = {}
    for origin, line in list(tree.lines(name))[1:]:
        clip, _, milliseconds = line.partition("\t")
        if not milliseconds.isdigit():
            raise CorpusError(f"{origin} is not `clip<tab>milliseconds`; fetch the release again")
        seconds[clip] = int(milliseconds) / 1000
    return seconds
