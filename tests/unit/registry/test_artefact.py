import errno
from pathlib import Path

import pytest
import torch

from paluku.config import Config
from paluku.errors import CheckpointError, StorageError
from paluku.registry.artefact import appearing_whole, halve, read_card, read_model, write_model


class Size(Config):
    width: int = 3


class LaterSize(Size):
    """The same with a setting that a later version added."""

    depth: int = 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with appearing_whole(tmp_path / "model") as partial:
        write_model(
            partial, "codec", Size(), {"weight": torch.arange(3.0)}, step=7, parents={"corpus": "abc"}
        )
    return tmp_path / "model"


def test_what_was_written_is_read(folder: Path) -> None:
    card, config, weights = read_model(folder, "codec", Size)
    assert (card.step, card.parents, config) == (7, {"corpus": "abc"}, Size())
    assert weights["weight"].tolist() == [0.0, 1.0, 2.0]


def test_the_hash_names_weights_and_configuration(tmp_path: Path) -> None:
    def hash_of(name: str, width: int, weight: float) -> str:
        with appearing_whole(tmp_path / name) as partial:
            return write_model(
                partial, "codec", Size(width=width), {"w": torch.tensor([weight])}, step=1
            ).hash

    first = hash_of("a", 3, 1.0)
    assert hash_of("same", 3, 1.0) == first
    assert len({first, hash_of("b", 4, 1.0), hash_of("c", 3, 2.0)}) == 3


def test_damage_is_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged or was exchanged"):
        read_model(folder, "codec", Size)


def test_an_edited_configuration_is_named(folder: Path) -> None:
    (folder / "config.json").write_text('{"width": 4}')
    with pytest.raises(CheckpointError, match=r"config\.json.*was edited"):
        read_model(folder, "codec", Size)


def test_a_model_from_before_a_setting_was_added_is_read_with_its_default(folder: Path) -> None:
    assert read_model(folder, "codec", LaterSize)[1] == LaterSize(width=3, depth=1)


def test_missing_parts_and_other_kinds_are_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="kind 'codec', not 's2s'"):
        read_card(folder, "s2s")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        read_model(folder, "codec", Size)
    (folder / "card.json").unlink()
    with pytest.raises(CheckpointError, match="not written whole"):
        read_card(folder)


def test_a_full_disk_leaves_nothing_and_what_was_there_stays(folder: Path) -> None:
    before = read_card(folder).hash

    def fill_the_disk() -> None:
        with appearing_whole(folder) as partial:
            (partial / "half").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="free space"):
        fill_the_disk()
    assert read_card(folder).hash == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_halved_model_is_the_same_but_for_rounding(tmp_path: Path) -> None:
    exact = {"weight": torch.randn(300), "count": torch.arange(3)}
    with appearing_whole(tmp_path / "model") as partial:
        whole = write_model(partial, "codec", Size(), exact, step=7, parents={"corpus": "abc"})
    card = halve(tmp_path / "model", tmp_path / "half")
    told, config, weights = read_model(tmp_path / "half", "codec", Size)
    assert told == card
    assert (card.step, config, card.parents) == (7, Size(), {"corpus": "abc", "halved_from": whole.hash})
    assert weights["weight"].dtype == torch.float16
    torch.testing.assert_close(weights["weight"].float(), exact["weight"], rtol=2**-10, atol=1e-7)
    assert torch.equal(weights["count"], exact["count"])


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    with appearing_whole(tmp_path / "model") as partial:
        write_model(partial, "codec", Size(), {"weight": torch.tensor([1e5])})
    with pytest.raises(CheckpointError, match="weight has weights beyond 65,504; ship it as it is"):
        halve(tmp_path / "model", tmp_path / "half")
    with appearing_whole(tmp_path / "broken") as partial:
        write_model(partial, "codec", Size(), {"weight": torch.tensor([torch.nan])})
    with pytest.raises(CheckpointError, match="weight has weights that are no numbers; train it again"):
        halve(tmp_path / "broken", tmp_path / "half")
    assert not (tmp_path / "half").exists()
