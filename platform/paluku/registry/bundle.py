"""A bundle: the codec, the S2S model trained on its codes, and the tokenizer, in one folder.

BUNDLE/bundle.json      schema version and the hash of each part
BUNDLE/codec/           model folder (registry.artefact)
BUNDLE/s2s/             model folder
BUNDLE/tokenizer.json   text tokenizer
BUNDLE/speakers/        model folder of the voices' encoder; not every bundle has one
"""

import os
import shutil
from pathlib import Path

from paluku.codec.trainable import TrainableCodec
from paluku.config import Config
from paluku.errors import CheckpointError, ConfigError, StorageError
from paluku.registry.artefact import (
    CONFIG,
    appearing_whole,
    check_files,
    read_card,
    write_json,
)
from paluku.registry.codecs import DEFAULT, shipped_codec, with_first_codebooks
from paluku.registry.codecs import load_codec as load_codec_folder
from paluku.registry.hub import PREFIX, Address, Hub
from paluku.registry.models import load_s2s as load_s2s_folder
from paluku.registry.models import shipped_s2s
from paluku.s2s.model import S2SConfig, S2SModel
from paluku.tokens.text import TextTokenizer, default_tokenizer, read_tokenizer

SCHEMA_VERSION = 1
BUNDLE, CODEC, S2S, TOKENIZER = "bundle.json", "codec", "s2s", "tokenizer.json"
SPEAKERS = "speakers"
CACHE = Path("~/.cache/paluku/bundles")


class BundleCard(Config):
    """What `bundle.json` says: which parts belong together."""

    schema_version: int
    codec: str
    s2s: str
    tokenizer: str


def write_bundle(folder: Path, codec: Path, s2s: Path, tokenizer: TextTokenizer) -> BundleCard:
    """Put the parts in one folder, which appears whole or not at all.

    Raises:
        CheckpointError: when the S2S model was trained on another codec's codes or another tokenizer.
        StorageError: when the place cannot be written.
    """
    card, parents = _card(codec, s2s, tokenizer), read_card(s2s, "s2s").parents
    _belong_together(s2s, "codec", parents, card.codec)
    _belong_together(s2s, "tokenizer", parents, card.tokenizer)
    with appearing_whole(folder) as partial:
        served = shutil.ignore_patterns("training.pt")  # optimiser state is no part of what is served
        shutil.copytree(codec, partial / CODEC, ignore=served)
        shutil.copytree(s2s, partial / S2S, ignore=served)
        (partial / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
        write_json(partial / BUNDLE, card.model_dump())
    return card


def _card(codec: Path, s2s: Path, tokenizer: TextTokenizer) -> BundleCard:
    return BundleCard(
        schema_version=SCHEMA_VERSION,
        codec=read_card(codec, "codec").hash,
        s2s=read_card(s2s, "s2s").hash,
        tokenizer=tokenizer.digest(),
    )


def _belong_together(s2s: Path, part: str, parents: dict[str, str], actual: str) -> None:
    if (trained_on := parents.get(part)) != actual:
        raise CheckpointError(
            f"{s2s} was trained with {part} {trained_on}, not {actual}; "
            f"give the {part} it was trained with, or train it anew on this one's tokens"
        )


def open_bundle(spec: str = DEFAULT, cache: Path = CACHE, hub: Hub | None = None) -> Path:
    """The folder of a bundle: `default`, `hub:OWNER/NAME@REVISION` (`registry.hub`), else the folder itself.

    `default` is made of what is shipped below models/, once, in a folder below `cache` named by the parts'
    hashes; several processes may ask for it at the same time. What comes from the Hub lies in its client's
    cache, and every file is compared with the cards' hashes each time.

    Raises:
        CheckpointError: when a part is not shipped, or not with the others; as `read_bundle` for a folder; as
            `Hub.pull`, and when what it gave is damaged.
        ServiceError: as `Hub.pull`.
        StorageError: when a cache cannot be written.
    """
    if spec.startswith(PREFIX):
        return _pulled(Address.parse(spec), hub or Hub())
    if spec != DEFAULT:
        read_bundle(Path(spec))
        return Path(spec)
    codec, s2s, tokenizer = shipped_codec(), shipped_s2s(), default_tokenizer()
    card = _card(codec, s2s, tokenizer)
    folder = cache.expanduser() / card.digest()[:16]
    if not _is_whole(folder, card):
        own = folder.with_name(f"{folder.name}-{os.getpid()}")
        write_bundle(own, codec, s2s, tokenizer)
        _give_name(own, folder, card)
    return folder


def _is_whole(folder: Path, card: BundleCard) -> bool:
    """Whether it is that bundle, down to the bytes of its weights."""
    try:
        return check_bundle(folder) == card
    except (CheckpointError, ConfigError, OSError):
        return False


def _give_name(own: Path, folder: Path, card: BundleCard) -> None:
    """To the one that comes first; a damaged one makes room."""
    try:
        if folder.exists() and not _is_whole(folder, card):
            shutil.rmtree(folder)
        own.rename(folder)
    except OSError as error:
        shutil.rmtree(own, ignore_errors=True)
        if not _is_whole(folder, card):
            raise StorageError(f"{folder} cannot be written ({error}); remove it, or free space") from error


def read_bundle(folder: Path) -> BundleCard:
    """The bundle's card, after a check that its parts are the ones it names.

    Raises:
        CheckpointError: when it is missing, not whole, of another schema, or a part was exchanged.
    """
    if not (folder / BUNDLE).is_file():
        raise CheckpointError(f"{folder} holds no {BUNDLE}: it is no bundle; make one with jobs/promote.py")
    card = BundleCard.from_file(folder / BUNDLE)
    if card.schema_version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{folder} has bundle schema {card.schema_version}, this version reads {SCHEMA_VERSION}"
        )
    actual = _card(folder / CODEC, folder / S2S, load_tokenizer(folder))
    for part, expected in card.model_dump().items():
        if getattr(actual, part) != expected:
            raise CheckpointError(
                f"{folder}: its {part} is not the one {BUNDLE} names; fetch the bundle again"
            )
    return card


def _pulled(address: Address, hub: Hub) -> Path:
    folder = hub.pull(address)
    try:
        check_bundle(folder)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(
            f"{address}: {error}. Remove {folder.parents[1]} and try again; where that does not help, the "
            "repository itself is damaged"
        ) from error
    return folder


def check_bundle(folder: Path) -> BundleCard:
    """The bundle's card, after every file was compared with the hashes of the cards; no model is built.

    Raises:
        CheckpointError: as `read_bundle`, and when a file is damaged, or the speakers model is another one
            than the S2S model was trained with.
    """
    card = read_bundle(folder)
    check_files(folder / CODEC)
    trained_with = check_files(folder / S2S).parents.get(SPEAKERS)
    if (folder / SPEAKERS).is_dir() and (found := check_files(folder / SPEAKERS).hash) != trained_with:
        raise CheckpointError(
            f"{folder / SPEAKERS} is {found}, the S2S model was trained with {trained_with}; give that one"
        )
    return card


def verify_bundle(folder: Path) -> BundleCard:
    """Read everything once: what passes can be served. Raises `CheckpointError` as `read_bundle`."""
    card = read_bundle(folder)
    load_codec(folder)
    load_s2s(folder)
    return card


def load_codec(bundle: Path) -> TrainableCodec:
    """The bundle's codec, with as many codebooks as the S2S model speaks.

    Raises:
        CheckpointError: as `read_bundle`.
        ConfigError: when the codec has fewer.
    """
    read_bundle(bundle)
    spoken = S2SConfig.from_file(bundle / S2S / CONFIG).num_codebooks
    return with_first_codebooks(load_codec_folder(bundle / CODEC)[1], spoken, str(bundle / CODEC))


def load_s2s(bundle: Path) -> S2SModel:
    """The bundle's S2S model; raises `CheckpointError` as `read_bundle`."""
    read_bundle(bundle)
    return load_s2s_folder(bundle / S2S)[1]


def load_tokenizer(bundle: Path) -> TextTokenizer:
    """The bundle's text tokenizer.

    Raises:
        CheckpointError: when its file is missing or broken.
    """
    return read_tokenizer(bundle / TOKENIZER)
