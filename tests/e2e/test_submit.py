"""`ray job submit` from a folder that is not the repository's, against a real cluster and MLflow server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from jobs.submit import ROOT
from paluku.cluster.local import LocalRay
from paluku.registry.bundle import read_bundle
from paluku.registry.server import LocalMlflow
from paluku.registry.store import fetch
from tests.fakes.bundle import tiny_bundle

pytestmark = pytest.mark.ray


def submit(ray: LocalRay, cwd: Path, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / "submit.py"), job, *arguments]
    return subprocess.run(command, cwd=cwd, env=ray.env, capture_output=True, text=True, check=False)


def test_a_submitted_job_registers_the_champion(
    local_ray: LocalRay, local_mlflow: LocalMlflow, tmp_path: Path
) -> None:
    parts = tiny_bundle(tmp_path).parent
    where = [f"codec={parts / 'codec'}", f"s2s={parts / 's2s'}", f"out={tmp_path / 'made'}"]
    forced = ["force=true", "reason=no weights that say anything"]  # random ones pass no gate
    settings = [*where, f"tracking_uri={local_mlflow.uri}", "name=submitted", *forced]
    done = submit(local_ray, tmp_path, "promote", "jobs/configs/promote.yaml", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    champion = MlflowClient(local_mlflow.uri).get_model_version_by_alias("submitted", "champion")
    assert (int(champion.version), champion.tags["s2s_hash"]) == (said["version"], said["s2s"])
    fetched = fetch("models:/submitted@champion", local_mlflow.uri, tmp_path / "cache")
    assert read_bundle(fetched) == read_bundle(tmp_path / "made")


def test_a_jobs_own_words_and_exit_code_come_back(
    local_ray: LocalRay, local_mlflow: LocalMlflow, tmp_path: Path
) -> None:
    nowhere = [f"{part}={tmp_path / 'nowhere'}" for part in ("codec", "s2s", "out")]
    done = submit(
        local_ray,
        tmp_path,
        "promote",
        "jobs/configs/promote.yaml",
        *nowhere,
        f"tracking_uri={local_mlflow.uri}",
    )
    assert done.returncode == 2
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ")
    assert "holds no card.json" in lines[-1]
    assert done.stdout.count("holds no card.json") == 1
