"""A training checkpoint: a model folder (`registry.artefact`) plus everything needed to go on.

FOLDER/training.pt    optimisers, EMA, RNG, step; read with `weights_only=True`
"""

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paluku.config import Config
from paluku.errors import CheckpointError
from paluku.registry.artefact import CARD, Card, ModelKind, appearing_whole, read_model, write_model

TRAINING = "training.pt"


def save(
    folder: Path,
    kind: ModelKind,
    config: Config,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Any],
    *,
    step: int,
    run_id: str,
    parents: Mapping[str, str],
) -> Card:
    """Write a checkpoint so that it appears whole or not at all.

    `weights` are what will be served (the EMA where there is one); `training` holds the rest as
    tensors and plain values.

    Raises:
        StorageError: when the place cannot be written.
    """
    with appearing_whole(folder) as partial:
        try:
            torch.save({"rng": torch.get_rng_state(), "step": step, **training}, partial / TRAINING)
        except RuntimeError as error:  # torch reports a full disk as "PytorchStreamWriter failed"
            raise OSError(str(error)) from error
        return write_model(partial, kind, config, weights, step=step, run_id=run_id, parents=parents)


def restore(
    folder: Path, kind: str, config: Config, parents: Mapping[str, str]
) -> tuple[Card, dict[str, Tensor], dict[str, Any]]:
    """Card, weights and training state, for a run with the same model configuration on the same data.

    Raises:
        CheckpointError: when files are missing or damaged, or the configuration or a parent differs.
    """
    card, saved, weights = read_model(folder, kind, type(config))
    if saved != config:
        raise CheckpointError(
            f"{folder} was made with another configuration ({_difference(saved, config)}); "
            "use the same one, or another checkpoint folder"
        )
    for part, parent in parents.items():
        if (trained_on := card.parents.get(part)) != parent:
            raise CheckpointError(
                f"{folder} was trained on {part} {trained_on}, not {parent}; "
                f"give it the {part} it began with, or another folder for a new run"
            )
    try:
        training = torch.load(folder / TRAINING, weights_only=True, map_location="cpu")
        torch.set_rng_state(training["rng"])
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{folder / TRAINING} cannot be read ({error}); resume from an older checkpoint"
        ) from error
    return card, weights, training


def folder_of(out: Path, step: int) -> Path:
    """Where the checkpoint of a step lies: `out/step-NNNNNN`."""
    return out / f"step-{step:06d}"


def newest(out: Path) -> Path | None:
    """The whole checkpoint of the highest step in `out`, if there is one."""
    return next(iter(_newest_first(out)), None)


def prune(out: Path, keep: int = 2) -> None:
    """Remove all but the newest `keep` checkpoints in `out`."""
    for folder in _newest_first(out)[keep:]:
        shutil.rmtree(folder, ignore_errors=True)


def _newest_first(out: Path) -> list[Path]:
    whole = [path for path in out.glob("step-*") if path.name[5:].isdigit() and (path / CARD).is_file()]
    return sorted(whole, key=lambda path: int(path.name[5:]), reverse=True)


def _difference(saved: Config, asked: Config) -> str:
    was, now = saved.model_dump(mode="json"), asked.model_dump(mode="json")
    return ", ".join(f"{key}: {was[key]!r} there, {now[key]!r} here" for key in was if was[key] != now[key])
