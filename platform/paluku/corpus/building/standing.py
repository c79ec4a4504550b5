"""Where a build stands: what `OUT` holds before anything is done, and what may be taken over from it.

A `manifest.json` says that the corpus is whole. Until then `_work` holds `key.json` (which recipe and
listing the work belongs to), `owner.json` (which build is at work), `plans/` (utterances of each part),
`parts/` (prepared rows of each) and `outcomes/` (one file for each finished task). A part's name says what it
was made of and by which settings, so work of an earlier listing is kept as far as it is the same.
"""

import functools
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto
from pathlib import Path

from pydantic import Field

from paluku.config import Config
from paluku.corpus.building.listing import Listing
from paluku.corpus.building.ownership import is_alive, owner_of
from paluku.corpus.config import CorpusConfig
from paluku.corpus.shards import MANIFEST, SPLITS, Kind, Manifest, ShardInfo, read_manifest
from paluku.corpus.storage import PARTIAL, Place, Stamp
from paluku.errors import ConfigError, CorpusError

WORK, OUTCOMES, PARTS = "_work", "outcomes", "parts"
KEY = "key.json"
LISTING = "listing"  # its name among a manifest's parents
HASH_DIGITS = 16
# What a build writes beside its work: shards, and the unfinished files of a writer that was killed.
_SHARD = rf"(?:{'|'.join(SPLITS)})-\d{{5}}\.parquet"
_PARTIAL = rf"(?:\.[0-9a-f]{{8}})?{re.escape(PARTIAL)}"
OURS = re.compile(rf"{_SHARD}(?:{_PARTIAL})?|(?:rejects\.parquet|manifest\.json){_PARTIAL}")


@functools.cache
def code_sha256() -> str:
    """Names the code that makes rows of recordings: this package, and what it decodes and detects with."""
    package = Path(__file__).parents[1]
    files = [*sorted(package.rglob("*.py")), package.parent / "audio.py", package.parent / "silero.py"]
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.read_bytes())
    return sha.hexdigest()


class WorkKey(Config):
    """What unfinished work belongs to."""

    recipe: str
    listing: str
    part_minutes: float  # how the listing is cut
    code: str = Field(default_factory=code_sha256)  # another version's parts are no part of this corpus


class Standing(Enum):
    """What there is."""

    NEW = auto()  # nothing
    UNFINISHED = auto()  # work of this recipe, or this very corpus without some shards: to be continued
    OUTDATED = auto()  # work of another, to be thrown away
    DONE = auto()  # this very corpus
    OTHER = auto()  # a finished corpus of another recipe or listing


def key_of(config: CorpusConfig, listing: Listing) -> WorkKey:
    """Names the work of a build."""
    return WorkKey(recipe=config.recipe_sha256(), listing=listing.sha256, part_minutes=config.part_minutes)


def maker_of(config: CorpusConfig) -> str:
    """Names what makes parts out of a listing: settings and code."""
    return hashlib.sha256(f"{config.recipe_sha256()} {code_sha256()}".encode()).hexdigest()[:HASH_DIGITS]


def standing(out: Place, key: WorkKey) -> Standing:
    """What `out` holds for a build of this key; `OTHER` even where work of this key was begun beside it.

    Raises:
        StorageError: when the place cannot be reached.
    """
    if out.exists(MANIFEST):
        manifest = same_manifest(out, "utterances", key.recipe, {LISTING: key.listing[:HASH_DIGITS]})
        if manifest is None:
            return Standing.OTHER
        return Standing.DONE if is_whole(out, manifest.shards) else Standing.UNFINISHED
    found = work_key(out)
    if found is None:
        return Standing.NEW
    return Standing.UNFINISHED if _is_continued(found, key) else Standing.OUTDATED


def same_manifest(
    out: Place, kind: Kind, recipe: str, parents: Mapping[str, str], made: Collection[str] = ()
) -> Manifest | None:
    """What `out` holds, when it was made by this recipe of these parents; `made` are those it made itself."""
    try:
        manifest = read_manifest(out, kind)
    except (CorpusError, ConfigError):  # of another kind, of an older version, or damaged
        return None
    given = {name: parent for name, parent in manifest.parents.items() if name not in made}
    return manifest if manifest.config_sha256 == recipe and given == parents else None


def finished(
    out: Place,
    kind: Kind,
    recipe: str,
    parents: Mapping[str, str],
    *,
    made: Collection[str] = (),
    overwrite: bool,
) -> Manifest | None:
    """The manifest of what is whole and the same; none where there is something to do.

    Raises:
        CorpusError: when something else is in the way and is not to be overwritten.
        StorageError: when the place cannot be reached.
    """
    if not out.exists(MANIFEST):
        return None
    manifest = same_manifest(out, kind, recipe, parents, made)
    if manifest is None:
        if not overwrite:
            refuse_other(out)
        return None
    return manifest if is_whole(out, manifest.shards) else None


def is_whole(out: Place, shards: Iterable[ShardInfo]) -> bool:
    """Whether the shards are there and have their sizes.

    Raises:
        StorageError: when the place cannot be reached.
    """
    stamps = out.stamps()
    return all(is_there(stamps, shard.path, shard.num_bytes) for shard in shards)


def refuse_changed(out: Place, shards: Iterable[ShardInfo]) -> None:
    """To be asked before a corpus is called whole.

    Raises:
        CorpusError: when a shard is not there any more, or has another size.
    """
    if not is_whole(out, shards):
        raise CorpusError(f"shards in {out} were changed while they were made; start the build again")


def is_there(stamps: Mapping[str, Stamp], name: str, num_bytes: int) -> bool:
    """Whether a file is among those of a folder, with its size."""
    return name in stamps and stamps[name].num_bytes == num_bytes


def work_key(out: Place) -> WorkKey | None:
    """What the work in `out` belongs to; none where there is none."""
    work = out / WORK
    if not work.exists(KEY):
        return None
    try:
        return WorkKey.from_json(work.read_bytes(KEY).decode(), work.named(KEY))
    except (ConfigError, UnicodeDecodeError):  # an older version's, or damaged: nobody can continue it
        return WorkKey(recipe="", listing="", part_minutes=0, code="")


def begin_work(out: Place, key: WorkKey) -> Place:
    """The work folder; what another recipe or version left there is removed.

    Raises:
        StorageError: when the place cannot be written.
    """
    work = out / WORK
    found = work_key(out)
    if found is None or not _is_continued(found, key):
        for folder in (OUTCOMES, PARTS):
            work.delete_tree(folder)
    if found != key:
        work.write_bytes(KEY, key.to_json().encode())
    return work


def sweep(out: Place, keep: set[str]) -> None:
    """Remove shards that are not in `keep`, and what killed writers left; whatever else lies there stays.

    Raises:
        StorageError: when the place cannot be written.
    """
    for name in out.list():
        if name not in keep and OURS.fullmatch(name):
            out.delete(name)


def refuse_other(out: Place) -> None:
    """Say that a finished corpus is in the way.

    Raises:
        CorpusError: always.
    """
    raise CorpusError(
        f"{out} holds a corpus of other settings or other recordings; "
        "choose another out, or set overwrite=true to replace it"
    )


def kept(out: Place) -> Manifest:
    """The manifest of a corpus that is whole; work that a killed build left beside it is removed.

    Not that of a build that goes on, which is to replace the corpus.

    Raises:
        StorageError: when the place cannot be reached.
    """
    out_work = out / WORK
    owner = owner_of(out_work)
    if out_work.list(recursive=True) and not (owner and is_alive(owner)):
        out.delete_tree(WORK)
    return read_manifest(out, "utterances")


def _is_continued(found: WorkKey, key: WorkKey) -> bool:
    return (found.recipe, found.code) == (key.recipe, key.code)
