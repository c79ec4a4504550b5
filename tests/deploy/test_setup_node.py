"""deploy/setup_node.sh over stand-ins of Python, pip and Ray; tests/cluster/test_nodes.py runs it really."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "setup_node.sh"
# Makes an "environment" whose pip writes down what it is asked for and fails where a file says so.
PYTHON = """#!/bin/sh
[ "$1" = -m ] || exit 0
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "$@" >>"%s/pip.log"\\n[ ! -e "%s/pip.fails" ]\\n' "$STAND" "$STAND" >"$3/bin/pip"
printf '#!/bin/sh\\n' >"$3/bin/python"
printf '#!/bin/sh\\necho "$@" >"%s/ray.log"; env >"%s/ray.env"\\n' "$STAND" "$STAND" >"$3/bin/ray"
printf '#!/bin/sh\\necho "10.9.8.7 STREAM mlflow"\\n' >"$3/bin/getent"
chmod +x "$3"/bin/*
"""


class Stand:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv, self.home = folder / "venv", folder / "home"
        self.home.mkdir()
        python = folder / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        self.env = os.environ | {
            "HOME": str(self.home),
            "STAND": str(folder),
            "PALUKU_PYTHON": str(python),
            "PALUKU_VENV": str(self.venv),
            "PALUKU_DATA": str(folder / "data"),
            "PALUKU_ADDRESS": "10.9.8.7",
            "PALUKU_SHARE": "none",
        }
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "GLOO_SOCKET_IFNAME", "PYTHONPATH"):
            self.env.pop(name, None)

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(SCRIPT), *words], env=self.env | env, capture_output=True, text=True, check=False
        )

    def asked_of_pip(self) -> list[str]:
        log = self.folder / "pip.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck (Debian: shellcheck)")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", "-x", str(SCRIPT)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_installs_the_pinned_versions_once(stand: Stand) -> None:
    assert stand.run("install", "boto3").returncode == 0
    first = stand.asked_of_pip()
    assert len(first) == 2
    assert first[0].endswith("-c constraints.txt -e .[train,serve] boto3")
    assert first[1].endswith("--no-deps -r requirements-nodeps.txt")
    again = stand.run("install", "boto3")
    assert "already" in again.stdout
    assert stand.asked_of_pip() == first
    assert stand.run("install").returncode == 0  # something else is wanted
    assert len(stand.asked_of_pip()) == 4


def test_an_install_that_failed_is_tried_again(stand: Stand) -> None:
    (stand.folder / "pip.fails").touch()
    assert stand.run("install").returncode != 0
    (stand.folder / "pip.fails").unlink()
    assert stand.run("install").returncode == 0
    assert len(stand.asked_of_pip()) == 3


def test_without_a_fitting_python_it_says_what_to_install(stand: Stand) -> None:
    """On a system without apt-get."""
    programs = stand.folder / "programs"
    programs.mkdir()
    for name in ("bash", "cat", "dirname", "sha256sum"):
        (programs / name).symlink_to(shutil.which(name) or name)
    done = stand.run("install", PATH=str(programs), PALUKU_PYTHON="python2")
    assert done.returncode == 2
    assert "install ca-certificates python3 python3-venv with this system's package manager" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name what to do: install, head or worker"),
        (("sleep",), "name what to do: install, head or worker"),
        (("worker",), "name the head's address"),
        (("head",), "install` first"),
        (("worker", "10.9.8.7"), "install` first"),
    ],
)
def test_what_is_missing_is_named(stand: Stand, words: tuple[str, ...], says: str) -> None:
    done = stand.run(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_no_node_starts_without_the_token(stand: Stand) -> None:
    stand.run("install")
    for words in (("head",), ("worker", "10.9.8.7")):
        done = stand.run(*words)
        assert done.returncode == 2
        assert "ray get-auth-token --generate" in done.stderr
    assert not (stand.folder / "ray.log").exists()


@pytest.mark.parametrize("words", [("head", "--num-cpus=0"), ("worker", "10.9.8.7", "--num-cpus=0")])
def test_ray_starts_with_the_environment_it_needs(stand: Stand, words: tuple[str, ...]) -> None:
    stand.run("install")
    (stand.home / ".ray").mkdir()
    (stand.home / ".ray" / "auth_token").write_text("secret")
    done = stand.run(*words)
    assert done.returncode == 0, done.stderr
    asked = (stand.folder / "ray.log").read_text().split()
    assert asked[0] == "start"
    assert asked[-1] == "--num-cpus=0"
    is_head = words[0] == "head"
    assert ("--head" in asked, "--address=10.9.8.7:6379" in asked) == (is_head, not is_head)
    assert ("--dashboard-host=127.0.0.1" in asked) == is_head
    env = dict(line.split("=", 1) for line in (stand.folder / "ray.env").read_text().splitlines())
    wanted = (ROOT / "deploy" / "node.env").read_text().splitlines()
    for name, value in (line.split("=", 1) for line in wanted if not line.startswith("#")):
        assert env[name] == value
    assert env["PATH"].startswith(f"{stand.venv}/bin:")
    assert env["PYTHONPATH"] == str(ROOT)
    assert (stand.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
