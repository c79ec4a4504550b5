import subprocess
import sys
from pathlib import Path

import pytest

from jobs.submit import NOISE, REPEATED, ROOT, command

SUBMIT = [sys.executable, str(ROOT / "jobs" / "submit.py")]


def test_the_command_carries_the_package_and_the_arguments() -> None:
    line = command("train_codec", ["a.yaml", "steps=3"], "id-1")
    assert line[line.index("--") + 1 :] == ["python", "-m", "jobs.train_codec", "a.yaml", "steps=3"]
    assert str(ROOT / "platform" / "paluku") in line[line.index("--runtime-env-json") + 1]


def test_an_unknown_job_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    done = subprocess.run([*SUBMIT, "train_codek"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "train_codec" in done.stderr
    assert "demo" not in done.stderr


def test_no_cluster_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SUBMIT, "promote", "x.yaml"],
        cwd=tmp_path,
        env={"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no Ray cluster answers at http://127.0.0.1:1" in done.stderr


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("2026-11-21 05:00:53,905\tINFO packaging.py:385 -- Ignoring upload", False),
        ("2026-11-21 05:00:53,901\tWARNING working_dir.py:101 -- Directory", False),
        ("Running entrypoint for job x: python -m jobs.promote", False),
        ("error: corpus is missing", True),
        ("05:00:53 paluku.training step 10 loss=1.2", True),
    ],
)
def test_rays_packaging_lines_are_not_shown(line: str, shown: bool) -> None:
    assert bool(NOISE.match(line)) is not shown


def test_the_second_print_of_a_failed_jobs_log_is_recognised() -> None:
    assert REPEATED.match("2026-11-21 05:01:03,081\tERR cli.py:74 -- -----")
