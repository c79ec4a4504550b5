"""A model on disk: a folder with weights, configuration and a card that names them by hash.

    FOLDER/card.json            what it is, the hashes below, its parents' hashes
    FOLDER/config.json          the resolved configuration; the model is built from this alone
    FOLDER/model.safetensors    the weights

The card is written last and the folder appears under its name only when whole.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import safetensors
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from paluku.config import Config
from paluku.errors import CheckpointError, StorageError

CARD, CONFIG, WEIGHTS = "card.json", "config.json", "model.safetensors"

ModelKind = Literal["codec", "s2s", "speakers"]


class Card(Config):
    """What a model folder says of itself."""

    kind: ModelKind
    weights_sha256: str
    config_sha256: str
    step: int = 0
    run_id: str = ""
    parents: dict[str, str] = Field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Names the model: the weights and the configuration they belong to."""
        return hashlib.sha256((self.weights_sha256 + self.config_sha256).encode()).hexdigest()[:16]


Model = TypeVar("Model", bound=Config)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, which takes its name when the block ends well.

    Raises:
        StorageError: when the place cannot be written (full, read-only); nothing is left behind.
    """
    partial, old = (folder.with_name(f"{folder.name}.{word}") for word in ("partial", "old"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)  # what was there lives until the new one has its name
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, safetensors.SafetensorError) as error:
        if isinstance(error, FileNotFoundError):  # something to read: the place to write to is made above
            raise
        raise StorageError(
            f"{folder} cannot be written ({error}); free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_model(
    folder: Path,
    kind: ModelKind,
    config: Config,
    weights: Mapping[str, Tensor],
    *,
    step: int = 0,
    run_id: str = "",
    parents: Mapping[str, str] | None = None,
) -> Card:
    """Write a model's three files into an existing folder (see `appearing_whole`), the card last."""
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
    card = Card(
        kind=kind,
        weights_sha256=sha256_file(folder / WEIGHTS),
        config_sha256=config.digest(),
        step=step,
        run_id=run_id,
        parents=dict(parents or {}),
    )
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    return card


def halve(model: Path, out: Path) -> Card:
    """Write a model's float32 weights as float16 into a folder of its own: the same model but for rounding.

    Whoever builds it computes in float32 as before. Its card names what it was, `halved_from`.

    Raises:
        CheckpointError: when the model is missing or damaged, or a weight is too large for float16.
        StorageError: when `out` cannot be written.
    """
    card = check_files(model)
    weights = load_file(model / WEIGHTS)
    halved = {n: w.half() if w.dtype == torch.float32 else w for n, w in weights.items()}
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise CheckpointError(f"{model}: {name} has weights that are no numbers; train it again")
        if not halved[name].isfinite().all():
            raise CheckpointError(f"{model}: {name} has weights beyond 65,504; ship it as it is")
    with appearing_whole(out) as partial:
        save_file(halved, partial / WEIGHTS)
        shutil.copyfile(model / CONFIG, partial / CONFIG)
        parents = {**card.parents, "halved_from": card.hash}
        told = {"weights_sha256": sha256_file(partial / WEIGHTS), "parents": parents}
        card = card.model_copy(update=told)
        (partial / CARD).write_text(card.to_json(), encoding="utf-8")
    return card


def read_card(folder: Path, kind: str | None = None) -> Card:
    """The card alone.

    Raises:
        CheckpointError: when the folder holds no whole model, or one of another kind.
    """
    if not (folder / CARD).is_file():
        raise CheckpointError(f"{folder} holds no {CARD}: it is no model folder, or was not written whole")
    card = Card.from_file(folder / CARD)
    if kind is not None and card.kind != kind:
        raise CheckpointError(f"{folder} holds a model of kind {card.kind!r}, not {kind!r}")
    return card


def read_model(folder: Path, kind: str, model: type[Model]) -> tuple[Card, Model, dict[str, Tensor]]:
    """Card, configuration and weights, each checked against the card's hashes.

    Raises:
        CheckpointError: when a file is missing, or a hash does not match.
        ConfigError: when the configuration does not fit this version's model.
    """
    card = read_card(folder, kind)
    _check_there(folder)
    _check_sha256(folder / WEIGHTS, card.weights_sha256)
    # The file, not what is made of it: a setting that a later version adds is no edit.
    if (actual := sha256_file(folder / CONFIG)) != card.config_sha256:
        raise CheckpointError(
            f"{folder / CONFIG} has sha256 {actual[:12]}, its card says {card.config_sha256[:12]}; "
            "it was edited: restore it, or train anew with the other configuration"
        )
    try:
        return card, model.from_file(folder / CONFIG), load_file(folder / WEIGHTS)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read ({error}); fetch it again") from error


def check_files(folder: Path) -> Card:
    """The card, after its hashes were compared with the files' bytes; no model is built.

    Raises:
        CheckpointError: when a file is missing, damaged or exchanged.
    """
    card = read_card(folder)
    _check_there(folder)
    _check_sha256(folder / WEIGHTS, card.weights_sha256)
    _check_sha256(folder / CONFIG, card.config_sha256)
    return card


def _check_there(folder: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing; fetch the whole folder again")


def _check_sha256(path: Path, expected: str) -> None:
    if (actual := sha256_file(path)) != expected:
        raise CheckpointError(
            f"{path} has sha256 {actual[:12]}, its card says {expected[:12]}; "
            "it is damaged or was exchanged: fetch it again"
        )


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")
    partial.replace(path)
