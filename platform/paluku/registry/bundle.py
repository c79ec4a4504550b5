"""A bundle: the codec, the S2S model trained on its codes, and the tokenizer, in one folder.

BUNDLE/bundle.json      schema version and the hash of each part
BUNDLE/codec/           model folder (registry.artefact)
BUNDLE/s2s/             model folder
BUNDLE/tokenizer.json   text tokenizer
"""

import json
import shutil
from pathlib import Path

from paluku.codec.trainable import TrainableCodec
from paluku.config import Config
from paluku.errors import CheckpointError
from paluku.registry.artefact import CONFIG, appearing_whole, read_card, write_json
from paluku.registry.codecs import load_codec as load_codec_folder
from paluku.registry.codecs import with_first_codebooks
from paluku.registry.models import load_s2s as load_s2s_folder
from paluku.s2s.model import S2SConfig, S2SModel
from paluku.tokens.text import CharTokenizer

SCHEMA_VERSION = 1
BUNDLE, CODEC, S2S, TOKENIZER = "bundle.json", "codec", "s2s", "tokenizer.json"


class BundleCard(Config):
    """What `bundle.json` says: which parts belong together."""

    schema_version: int
    codec: str
    s2s: str
    tokenizer: str


def write_bundle(folder: Path, codec: Path, s2s: Path, tokenizer: CharTokenizer) -> BundleCard:
    """Put the parts in one folder, which appears whole or not at all.

    Raises:
        CheckpointError: when the S2S model was trained on another codec's codes or another tokenizer.
        StorageError: when the place cannot be written.
    """
    codec_card, s2s_card = read_card(codec, "codec"), read_card(s2s, "s2s")
    _belong_together(s2s, "codec", s2s_card.parents, codec_card.hash)
    _belong_together(s2s, "tokenizer", s2s_card.parents, tokenizer.digest())
    card = BundleCard(
        schema_version=SCHEMA_VERSION, codec=codec_card.hash, s2s=s2s_card.hash, tokenizer=tokenizer.digest()
    )
    with appearing_whole(folder) as partial:
        served = shutil.ignore_patterns("training.pt")  # optimiser state is no part of what is served
        shutil.copytree(codec, partial / CODEC, ignore=served)
        shutil.copytree(s2s, partial / S2S, ignore=served)
        (partial / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
        write_json(partial / BUNDLE, card.model_dump())
    return card


def _belong_together(s2s: Path, part: str, parents: dict[str, str], actual: str) -> None:
    if (trained_on := parents.get(part)) != actual:
        raise CheckpointError(
            f"{s2s} was trained with {part} {trained_on}, not {actual}; "
            f"give the {part} it was trained with, or train it anew on this one's tokens"
        )


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
    actual = BundleCard(
        schema_version=SCHEMA_VERSION,
        codec=read_card(folder / CODEC, "codec").hash,
        s2s=read_card(folder / S2S, "s2s").hash,
        tokenizer=load_tokenizer(folder).digest(),
    )
    for part, expected in card.model_dump().items():
        if getattr(actual, part) != expected:
            raise CheckpointError(
                f"{folder}: its {part} is not the one {BUNDLE} names; fetch the bundle again"
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


def load_tokenizer(bundle: Path) -> CharTokenizer:
    """The bundle's text tokenizer.

    Raises:
        CheckpointError: when its file is missing or broken.
    """
    path = bundle / TOKENIZER
    try:
        return CharTokenizer.from_json(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); fetch the bundle again") from error
