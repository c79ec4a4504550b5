"""Checkpoints come back as they were, or say what is wrong with them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from paluku.config import Config
from paluku.errors import CheckpointError, StorageError
from paluku.training import checkpoint


class Sizes(Config):
    width: int = 3


PARENTS = {"corpus": "abc"}
WEIGHTS = {"w": torch.arange(6.0).view(2, 3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = checkpoint.folder_of(tmp_path, 7)
    write(place)
    return place


def write(place: Path, weights: dict[str, Tensor] = WEIGHTS) -> None:
    moment = {"moment": torch.ones(3)}
    checkpoint.save(place, "codec", Sizes(), weights, moment, step=7, run_id="r1", parents={"corpus": "abc"})


def test_another_corpus_is_named_and_not_taken_over(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="was trained on corpus abc, not def"):
        checkpoint.restore(folder, "codec", Sizes(), {"corpus": "def"})


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (5, 10, 1_000_000):
        write(checkpoint.folder_of(tmp_path, step))
    (tmp_path / "samples").mkdir()
    checkpoint.prune(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["samples", "step-000010", "step-1000000"]


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def test_what_was_saved_comes_back(folder: Path) -> None:
    torch.manual_seed(5)
    write(folder)
    drawn = torch.rand(3)
    card, weights, training = checkpoint.restore(folder, "codec", Sizes(), PARENTS)
    assert (card.step, card.run_id, card.parents) == (7, "r1", {"corpus": "abc"})
    assert torch.equal(weights["w"], WEIGHTS["w"])
    assert torch.equal(training["moment"], torch.ones(3))
    assert torch.equal(torch.rand(3), drawn)  # the random state went on from where it was saved


def test_damaged_weights_are_named(folder: Path) -> None:
    spoil(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors has sha256 .* damaged"):
        checkpoint.restore(folder, "codec", Sizes(), PARENTS)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half"])
def test_a_broken_training_state_is_named(folder: Path, content: bytes) -> None:
    (folder / "training.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"training\.pt cannot be read"):
        checkpoint.restore(folder, "codec", Sizes(), PARENTS)


def test_a_truncated_training_state_is_named(folder: Path) -> None:
    whole = (folder / "training.pt").read_bytes()
    (folder / "training.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"training\.pt cannot be read"):
        checkpoint.restore(folder, "codec", Sizes(), PARENTS)


@pytest.mark.parametrize("name", ["card.json", "config.json", "model.safetensors", "training.pt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        checkpoint.restore(folder, "codec", Sizes(), PARENTS)


def test_another_configuration_is_refused_with_the_difference(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="width: 3 there, 4 here"):
        checkpoint.restore(folder, "codec", Sizes(width=4), PARENTS)


def test_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="kind 'codec', not 's2s'"):
        checkpoint.restore(folder, "s2s", Sizes(), PARENTS)


def test_a_half_written_checkpoint_never_takes_the_name(tmp_path: Path) -> None:
    place = checkpoint.folder_of(tmp_path, 1)
    shared = torch.zeros(2)
    with pytest.raises(RuntimeError):  # safetensors refuses two names for the same memory
        write(place, {"a": shared, "b": shared})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write(tmp_path / "file" / "step-000001")


def test_the_newest_is_the_highest_whole_step(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nowhere") is None
    for step in (5, 1_000_000, 20):
        write(checkpoint.folder_of(tmp_path, step))
    (tmp_path / "step-2000000").mkdir()
    (tmp_path / "step-3000000.partial").mkdir()
    newest = checkpoint.newest(tmp_path)
    assert newest is not None
    assert newest.name == "step-1000000"
