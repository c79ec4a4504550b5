"""Which recordings a codec is judged on: the same ones in every run, spread over languages and speakers.

A folder is one of three: utterances that `jobs/build_corpus.py` built (one split of it), recordings with a
`manifest.jsonl`, or audio and video files without (a subfolder is a speaker).
"""

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from paluku import audio
from paluku.corpus.media import decode
from paluku.corpus.preparation.quality import UnusableError
from paluku.corpus.report import scan
from paluku.corpus.shards import MANIFEST, Split, read_manifest
from paluku.corpus.sources.folder import FolderConfig, FolderSource
from paluku.corpus.splits import fraction
from paluku.corpus.storage import Place, is_uri
from paluku.corpus.utterance import UNDETERMINED, Utterance
from paluku.errors import AudioError, EvaluationError, one_line

# PESQ compares stretches of speech: in less than a second there may be none. More than 20 s tell no more.
MIN_S, MAX_S = 1.0, 20.0
# Below -60 dB full scale there is nothing to hear, and no judge gives a number.
SILENCE_RMS = 1e-3

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Clip:
    """One recording: `wave` is float32 `[S]`, mono; `text` is what is said in it, where that is known."""

    id: str
    wave: np.ndarray
    rate_hz: int
    language: str
    speaker: str
    source: str
    licence: str
    text: str | None = None
    file_bytes: int = 0  # of the file it is from, where it is one of a folder

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.wave) / self.rate_hz


class Wanted(NamedTuple):
    """Which clips; no languages are all of them. `split` is looked at where the folder has splits."""

    most: int
    split: Split = "test"
    languages: tuple[str, ...] = ()
    seed: int = 0


class Ignored(NamedTuple):
    """A recording that was not judged; `reason` is one of a few words."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Chosen:
    """What is judged, what could not be, and how much there was."""

    clips: list[Clip]
    ignored: list[Ignored]
    data_hash: str  # of the corpus' manifest; else of the chosen names and their files' sizes
    offered: int  # recordings in the wanted languages
    there: dict[str, int]  # recordings by language, wanted or not

    @property
    def seconds(self) -> float:
        """Of all clips."""
        return sum(clip.seconds for clip in self.clips)


class Candidate(NamedTuple):
    """A recording that is not decoded yet; where it cannot be used, loading raises UnusableError."""

    id: str
    language: str
    speaker: str
    load: Callable[[], Clip]


def choose(folder: str, wanted: Wanted, rate_hz: int, step: Callable[[], None] = lambda: None) -> Chosen:
    """At most `wanted.most` clips of 1 to 20 s, mono at `rate_hz`; longer recordings give their first 20 s.

    `step` is called for each clip that was taken.

    Raises:
        CorpusError: when the folder is missing, broken or empty.
        EvaluationError: when the split is empty, or no clip can be judged; the reasons are counted.
    """
    place = Place.of(folder if is_uri(folder) else Path(folder).absolute())
    candidates, data_hash = _listed(place, wanted, rate_hz)
    there = Counter(candidate.language for candidate in candidates)
    asked = [c for c in candidates if not wanted.languages or c.language in wanted.languages]
    if not asked:
        raise EvaluationError(
            f"{folder} has nothing in {', '.join(wanted.languages)}; "
            f"there is {', '.join(sorted(there))}: choose of these with --languages"
        )
    clips, ignored = _taken(spread(asked, wanted.seed), wanted.most, step)
    if not clips:
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(i.reason for i in ignored).most_common())
        raise EvaluationError(
            f"{folder} has no clip to judge ({reasons}); give recordings of at least {MIN_S:g} s of speech"
        )
    return Chosen(clips, ignored, data_hash or _digest(clips), len(asked), dict(there))


def spread(items: Sequence[Candidate], seed: int) -> list[Candidate]:
    """All of them, languages taking turns, in each its speakers.

    Any first part of the list is as even as it can be; the order depends on names and seed alone.
    """
    drawn = sorted(items, key=lambda item: fraction(f"{item.language}/{item.speaker}/{item.id}", seed))
    languages = [
        _turns(_groups(of_one, lambda item: item.speaker))
        for _, of_one in sorted(_groups(drawn, lambda item: item.language).items())
    ]
    return _turns(dict(enumerate(languages)))


def _groups(items: Iterable[Item], key: Callable[[Item], Hashable]) -> dict[Any, list[Item]]:
    groups: dict[Any, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _turns(groups: dict[Any, list[Item]]) -> list[Item]:
    """The first of each group, then the second of each, ..."""
    nothing = object()
    rounds = chain.from_iterable(zip_longest(*groups.values(), fillvalue=nothing))
    return [item for item in rounds if item is not nothing]  # pyright: ignore[reportReturnType]


def _taken(
    candidates: Iterable[Candidate], count: int, step: Callable[[], None]
) -> tuple[list[Clip], list[Ignored]]:
    clips: list[Clip] = []
    ignored: list[Ignored] = []
    for candidate in candidates:
        if len(clips) == count:
            break
        try:
            clips.append(_audible(candidate.load()))
        except UnusableError as error:
            ignored.append(Ignored(candidate.id, error.reason, error.detail))
        except AudioError as error:
            ignored.append(Ignored(candidate.id, "broken", one_line(error)))
        else:
            step()
    return clips, ignored


def _audible(clip: Clip) -> Clip:
    if clip.seconds < MIN_S:
        raise UnusableError("too_short", f"{clip.seconds:.2f} s, at least {MIN_S:g} s is judged")
    if float(np.sqrt(np.square(clip.wave, dtype=np.float64).mean())) < SILENCE_RMS:
        raise UnusableError("silent", "the level is below -60 dB full scale")
    return clip


def _listed(place: Place, wanted: Wanted, rate_hz: int) -> tuple[list[Candidate], str]:
    if place.exists(MANIFEST):
        return _of_shards(place, wanted.split, rate_hz)
    found = FolderSource(FolderConfig(folder=place.where)).iterate()
    return [_of_file(utterance, rate_hz) for utterance in found if utterance.path], ""


def _of_shards(place: Place, split: Split, rate_hz: int) -> tuple[list[Candidate], str]:
    """The names of a split's rows; their sound is fetched when it is asked for."""
    manifest = read_manifest(place, "utterances")
    shards = tuple(shard for shard in manifest.shards if shard.split == split)
    if not sum(shard.rows for shard in shards):
        filled = ", ".join(dict.fromkeys(shard.split for shard in manifest.shards if shard.rows))
        there = f"there are some in {filled}: choose with --split" if filled else "nor in any other"
        raise EvaluationError(f"{place} has no rows in split {split!r}; {there}")
    found = []
    for batch in scan.scan(place, manifest.model_copy(update={"shards": shards})):
        columns = [batch.rows[name].to_pylist() for name in ("id", "language", "speaker")]
        for offset, (name, language, speaker) in enumerate(zip(*columns, strict=True)):
            spot = scan.Spot(batch.shard, batch.first_row + offset)
            load = functools.partial(_of_row, place, spot, rate_hz)
            found.append(Candidate(name, language or UNDETERMINED, speaker, load))
    return found, manifest.hash


def _of_row(place: Place, spot: scan.Spot, rate_hz: int) -> Clip:
    [row] = scan.fetch(place, [spot])
    wave = audio.read_mono(row["audio"], rate_hz, f"the sound of {row['id']}")
    names = {name: row[name] for name in ("id", "speaker", "source", "licence")}
    return _clip(wave, rate_hz, row["text"], **names, language=row["language"] or UNDETERMINED)


def _of_file(utterance: Utterance, rate_hz: int) -> Candidate:
    def load() -> Clip:
        last_s = utterance.start_s + MAX_S + 1  # so that what is longer is seen to be
        end_s = last_s if utterance.end_s is None else min(utterance.end_s, last_s)
        decoded = decode(utterance.model_copy(update={"end_s": end_s}), rate_hz)
        names = utterance.model_dump(include={"id", "speaker", "source", "licence", "language"})
        return _clip(decoded.wave, rate_hz, utterance.text, _file_bytes(utterance.path), **names)

    return Candidate(utterance.id, utterance.language, utterance.speaker, load)


def _file_bytes(path: str | None) -> int:
    assert path is not None, "what has no file is no candidate"
    place, name = Place.of_file(path)
    return place.size(name) or 0


def _clip(wave: np.ndarray, rate_hz: int, text: str | None, file_bytes: int = 0, **names: str) -> Clip:
    heard = wave[: round(MAX_S * rate_hz)]
    # The text of what was cut off was not said in what is left.
    said = text if len(heard) == len(wave) else None
    return Clip(wave=heard.astype(np.float32), rate_hz=rate_hz, text=said, file_bytes=file_bytes, **names)


def _digest(clips: Sequence[Clip]) -> str:
    """Names a choice without a manifest, at whatever rate: MLflow shows it as the data's version."""
    sha = hashlib.sha256()
    for clip in clips:
        sha.update(f"{clip.id}\0{clip.file_bytes}\0".encode())
    return sha.hexdigest()[:16]
