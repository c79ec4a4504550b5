"""Rules of the house that no linter states."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOB_LINES = 80
# These run the others on the user's machine, or start, load and break a whole service.
RUNNERS = ("stack.py", "demo.py", "submit.py", "soak.py")
RIGS = ("stand.py", "bench_serve.py", "chaos.py", "engine_rivals.py")
LONGER_JOBS = dict.fromkeys(RUNNERS, 160) | dict.fromkeys(RIGS, 200)


def test_the_source_root_is_no_package() -> None:
    # With this file, `python -m jobs.x` would shadow the standard library's `platform` and die,
    # while pytest would still pass.
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_library_platform_wins_in_the_repository_root() -> None:
    code = "import platform, paluku; assert platform.system(), platform"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "init", [p.relative_to(ROOT).as_posix() for p in ROOT.glob("platform/paluku/**/__init__.py")]
)
def test_package_files_are_empty(init: str) -> None:
    assert not (ROOT / init).read_text().strip()


@pytest.mark.parametrize("job", [p.name for p in ROOT.glob("jobs/*.py")])
def test_jobs_are_thin(job: str) -> None:
    lines = (ROOT / "jobs" / job).read_text().count("\n")
    limit = LONGER_JOBS.get(job, JOB_LINES)
    assert lines <= limit, f"{job} has {lines} lines; move what is not parse, build, run into paluku"


def test_every_folder_has_modules() -> None:
    empty = [
        folder.name
        for folder in (ROOT / "platform" / "paluku").iterdir()
        if folder.is_dir() and folder.name != "__pycache__" and len(list(folder.glob("*.py"))) < 2
    ]
    assert not empty


@pytest.mark.parametrize("package", ["dac", "encodec", "torchaudio", "datasets", "mlflow", "ray"])
def test_the_pinned_packages_import_beside_each_other(package: str) -> None:
    code = (
        "from paluku.torchaudio_cpu import prepare_torchaudio; prepare_torchaudio()\n"
        "import importlib, sys; importlib.import_module(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, package], check=True, cwd=ROOT)
