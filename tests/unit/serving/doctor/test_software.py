"""Versions, ports, tools and models: each check's failing side."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from paluku.errors import ConfigError
from paluku.registry.artefact import CARD, WEIGHTS
from paluku.serving.doctor import models, ports, tools, versions
from tests.fakes.bundle import tiny_bundle

PINS = {"numpy": "2.4.1", "torch": "2.13.0", "ray": "2.60.0"}


def test_versions_as_pinned_are_well_whatever_the_build() -> None:
    here = {"numpy": "2.4.1", "torch": "2.13.0+cpu"}  # ray is an extra that is not installed
    (finding,) = versions.compare(PINS, here.get, ["numpy", "torch"])
    assert (finding.verdict, finding.found[:6]) == ("ok", "2 of 3")


def test_another_version_than_pinned_is_a_warning_that_names_both() -> None:
    here = {"numpy": "2.3.0", "torch": "2.13.0", "ray": "2.60.0"}
    (finding,) = versions.compare(PINS, here.get, ["numpy"])
    assert finding.verdict == "warn"
    assert finding.found.endswith("numpy 2.3.0 (not 2.4.1)")
    assert "make setup" in finding.todo


def test_a_missing_package_that_everything_needs_is_a_failure() -> None:
    (finding,) = versions.compare(PINS, {"ray": "2.60.0"}.get, ["torch", "numpy"])
    assert (finding.verdict, finding.found) == ("FAIL", "missing: numpy, torch")


def test_a_long_list_is_cut() -> None:
    many = {f"p{number}": "1" for number in range(9)}
    (finding,) = versions.compare(many, lambda _: "2", [])
    assert finding.found.endswith("and 4 more")


def test_constraints_and_requirements_are_read_as_pip_does() -> None:
    text = "# pins\nTyping_Extensions==4.1 ; python_version < '4'\nruamel.yaml==0.18\nfree>=1\n"
    assert versions.pins(text) == {"typing-extensions": "4.1", "ruamel-yaml": "0.18"}
    requirements = ["numpy>=2", "pyarrow<26,>=25", 'ray[serve]>=2.60; extra == "serve"', "PyYAML>=6"]
    assert versions.needs(requirements) == ["numpy", "pyarrow", "pyyaml"]


def test_an_old_python_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("")
    findings = versions.check(tmp_path / "constraints.txt", python=(3, 10))
    assert (findings[0].check, findings[0].verdict, findings[0].found) == ("Python", "FAIL", "3.10")


def test_without_constraints_it_says_where_they_lie(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies in the checkout"):
        versions.check(tmp_path / "constraints.txt")


def test_a_port_that_somebody_has_is_told_with_who() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert ports.holder_of(port) is None
        listener.listen()
        assert f"(process {os.getpid()})" in str(ports.holder_of(port))
        (finding,) = ports.check({port: "MLflow"})
        assert finding.verdict == "warn"
        assert finding.found.startswith("taken by ")
        assert "MLflow" in finding.todo


def test_a_free_port_is_well() -> None:
    (finding,) = ports.check({8000: "the endpoint"}, holder=lambda _: None)
    assert (finding.check, finding.verdict, finding.found) == ("port 8000", "ok", "free")


def test_a_missing_tool_says_who_wants_it_and_how_to_get_it() -> None:
    findings = tools.check(has_package=lambda _: False, has_program=lambda _: False)
    assert {finding.verdict for finding in findings} == {"warn"}
    told = {finding.check: finding for finding in findings}
    assert "apt-get install ffmpeg" in told["ffmpeg"].todo
    assert "/ws" in told["Opus"].found


def test_a_package_or_a_program_is_enough() -> None:
    findings = tools.check(has_package=lambda _: False, has_program=lambda name: name == "espeak-ng")
    assert [f.check for f in findings if f.verdict == "ok"] == ["eSpeak NG"]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    tiny_bundle(tmp_path)
    return {"codec": tmp_path / "codec", "s2s": tmp_path / "s2s"}


def test_models_with_their_hashes_are_well(folders: dict[str, Path]) -> None:
    assert {finding.verdict for finding in models.check(folders)} == {"ok"}


def test_a_damaged_model_is_a_failure(folders: dict[str, Path]) -> None:
    weights = folders["codec"] / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    codec, s2s = models.check(folders)
    assert (codec.verdict, s2s.verdict) == ("FAIL", "ok")
    assert "sha256" in codec.found
    assert "git checkout" in codec.todo


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_model_that_is_not_whole_is_a_failure(folders: dict[str, Path], name: str) -> None:
    (folders["s2s"] / name).unlink()
    codec, s2s = models.check(folders)
    assert (codec.verdict, s2s.verdict) == ("ok", "FAIL")
    assert name in s2s.found


def test_a_model_of_another_codec_is_a_failure(folders: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    from tests.fakes.bundle import tiny_codec

    shutil.rmtree(folders["codec"])
    tiny_codec(folders["codec"], seed=3)
    *each, together = models.check(folders)
    assert {finding.verdict for finding in each} == {"ok"}
    assert (together.verdict, "was trained on codec" in together.found) == ("FAIL", True)


def test_the_shipped_models_are_well() -> None:
    assert [finding.verdict for finding in models.check()] == ["ok"] * len(models.KINDS)
