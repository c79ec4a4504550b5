"""Phase one of a build: what the sources have, in their order, cut into parts of about equal work.

A part is what one task makes: about ten minutes of sound, or 256 items; the last few are cut smaller, so that
no core waits long for another's. Its utterances lie in a file of
their own below `_work/plans/`, so that the driver holds nothing but the names. Such a name is made of the
utterances and of the sizes and times of their files: a recording that is replaced makes another plan.
"""

import functools
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from paluku.config import Config
from paluku.corpus.sources.port import Source
from paluku.corpus.storage import Place, is_uri
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError

PLANS = "plans"
PART_ITEMS = 256
# With 25 parts of one size two cores wait half a part for each other at the end: 2 % of the time.
TAIL_PARTS, TAIL_PIECES = 4, 4
# What a recording of unknown length is taken for: a folder of hour-long films is cut into parts of twenty.
UNKNOWN_LENGTH_S = 30.0
KNOWN_FILES, KNOWN_FOLDERS = 64, 64  # stretches of a file follow each other, files of a folder mostly


class PartPlan(Config):
    """One part to be made; the utterances are in the file `listing` below the work folder."""

    number: int
    listing: str
    maker: str = ""  # whose work this is (`standing.maker_of`): under other settings it is another part
    items: int
    audio_s: float  # as far as it is known before decoding


class SourceSummary(Config):
    """What one source lists."""

    licences: tuple[str, ...]
    items: int = 0
    audio_s: float = 0.0  # as far as it is known before decoding
    unknown: int = 0  # items whose length is not


class Listing(Config):
    """All that is to be prepared."""

    # Of all utterances in order and their files' stamps; how they are cut into parts does not change it.
    sha256: str
    parts: tuple[PartPlan, ...]
    sources: dict[str, SourceSummary] = Field(default_factory=dict)

    @property
    def items(self) -> int:
        """Utterances in all."""
        return sum(part.items for part in self.parts)


def list_sources(
    sources: Iterable[Source], part_s: float, work: Place | None = None, maker: str = ""
) -> Listing:
    """Go through the sources once; with `work` the parts' files are written there.

    Every recording's size and time of change are asked for: of a store, a folder at a time.

    Raises:
        CorpusError: when a source is missing or broken, gives an id twice, or nothing is there at all.
        StorageError: when the place cannot be written, or a store of recordings is out of reach.
    """
    stamps = _Stamps()
    sha, summaries = hashlib.sha256(), {}
    known = set(work.list(PLANS)) if work else set()
    parts: list[PartPlan] = []
    for part in tapered(cut(_each_once(sources, summaries), part_s), part_s):
        lines = [f"{utterance.model_dump_json()}\n".encode() for utterance in part]
        data, digest = b"".join(lines), hashlib.sha256()
        for line, utterance in zip(lines, part, strict=True):
            stamped = line + stamps.of(utterance.path)
            sha.update(stamped)
            digest.update(stamped)
        name = f"{PLANS}/{len(parts):06d}-{digest.hexdigest()[:16]}.jsonl"
        if work is not None and name not in known:
            work.write_bytes(name, data)
        audio_s = sum(_length_s(utterance) for utterance in part)
        about = {"number": len(parts), "listing": name, "maker": maker}
        parts.append(PartPlan(**about, items=len(part), audio_s=audio_s))
    if not parts:
        raise CorpusError("the sources list nothing to build from; check their paths, languages and limits")
    return Listing(sha256=sha.hexdigest(), parts=tuple(parts), sources=summaries)


def read_part(plan: PartPlan, work: Place) -> Iterator[Utterance]:
    """The utterances of a part.

    Raises:
        CorpusError: when its file is missing.
    """
    for line in work.read_bytes(plan.listing).splitlines():
        yield Utterance.model_validate_json(line)


class _Stamps:
    """Sizes and times of files; in a listing's order most lie in the folder of the one before."""

    def __init__(self) -> None:
        self._of_file = functools.lru_cache(maxsize=KNOWN_FILES)(self._ask)
        self._of_folder = functools.lru_cache(maxsize=KNOWN_FOLDERS)(lambda folder: Place.of(folder).stamps())

    def of(self, path: str | None) -> bytes:
        """Text; the same for whatever is not there."""
        return b"" if path is None else self._of_file(path)

    def _ask(self, path: str) -> bytes:
        if is_uri(path):
            folder, name = Place.of_file(path)
            stamp = folder.stamp(name) if folder.local else self._of_folder(folder.where).get(name)
            return b"missing\n" if stamp is None else f"{stamp.num_bytes} {stamp.mtime_ns}\n".encode()
        try:
            status = Path(path).stat()
        except (OSError, ValueError):  # whoever decodes it says what is wrong
            return b"missing\n"
        return f"{status.st_size} {status.st_mtime_ns}\n".encode()


def cut(
    utterances: Iterable[Utterance], part_s: float, max_items: int = PART_ITEMS
) -> Iterator[list[Utterance]]:
    """Consecutive runs of at least `part_s` seconds (but the last) or `max_items`."""
    part: list[Utterance] = []
    seconds = 0.0
    for utterance in utterances:
        part.append(utterance)
        seconds += _length_s(utterance) or UNKNOWN_LENGTH_S
        if seconds >= part_s or len(part) == max_items:
            yield part
            part, seconds = [], 0.0
    if part:
        yield part


def tapered(parts: Iterable[list[Utterance]], part_s: float) -> Iterator[list[Utterance]]:
    """Parts of `part_s` seconds, the last `TAIL_PARTS` of them cut into `TAIL_PIECES` each."""
    last: deque[list[Utterance]] = deque()
    for part in parts:
        last.append(part)
        if len(last) > TAIL_PARTS:
            yield last.popleft()
    for part in last:
        yield from cut(part, part_s / TAIL_PIECES)


def _each_once(sources: Iterable[Source], summaries: dict[str, SourceSummary]) -> Iterator[Utterance]:
    """All utterances; `summaries` is filled on the way."""
    seen: set[bytes] = set()
    for source in sources:
        for utterance in source.iterate():
            name = f"{utterance.source}/{utterance.id}"
            key = hashlib.blake2b(name.encode(), digest_size=8).digest()  # a million ids in 60 MB
            if key in seen:
                raise CorpusError(
                    f"{name} is listed twice; give every source its own name, every item its id"
                )
            seen.add(key)
            _count(utterance, summaries)
            yield utterance


def _count(utterance: Utterance, summaries: dict[str, SourceSummary]) -> None:
    before = summaries.get(utterance.source) or SourceSummary(licences=())
    length_s = _length_s(utterance)
    is_new = utterance.licence not in before.licences
    summaries[utterance.source] = SourceSummary.model_construct(  # checked: they are sums of checked values
        licences=(*before.licences, utterance.licence) if is_new else before.licences,
        items=before.items + 1,
        audio_s=before.audio_s + length_s,
        unknown=before.unknown + (length_s == 0),
    )


def _length_s(utterance: Utterance) -> float:
    if utterance.end_s is not None:
        return utterance.end_s - utterance.start_s
    return utterance.duration_s
