"""Shipped models are found beside the package, and from a job's working directory."""

from pathlib import Path

import pytest

from paluku.registry.shipped import shipped


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path / "job")
    return tmp_path / "job"


def test_beside_the_package_comes_first(tmp_path: Path, working_directory: Path) -> None:
    for place in (tmp_path, working_directory):
        (place / "models" / "codec").mkdir(parents=True)
    assert shipped("codec", tmp_path) == tmp_path / "models" / "codec"


def test_a_job_finds_them_in_its_working_directory(tmp_path: Path, working_directory: Path) -> None:
    (working_directory / "models" / "codec").mkdir(parents=True)
    assert shipped("codec", tmp_path / "elsewhere") == working_directory / "models" / "codec"


def test_where_there_are_none_the_checkout_is_named(tmp_path: Path, working_directory: Path) -> None:
    assert shipped("codec", tmp_path) == tmp_path / "models" / "codec"
