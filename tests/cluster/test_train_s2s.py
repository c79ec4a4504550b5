"""S2S training as a user starts it: real Ray Train with two workers, stopped and started again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from paluku.cluster.local import LocalRay
from paluku.registry.artefact import read_card
from paluku.registry.server import LocalMlflow
from tests.fakes.tokens import tiny_s2s_run, write_tokens

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240


def train(ray: LocalRay, mlflow: LocalMlflow, tokens: Path, out: Path, *arguments: str) -> dict[str, str]:
    config = out.with_suffix(".yaml")
    config.write_text(tiny_s2s_run(tokens, out, batch=2, row_frames=20).to_json())  # JSON is YAML
    placed = [f"placement.storage={out}-storage", f"placement.tracking_uri={mlflow.uri}"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.train_s2s", str(config), *placed, *arguments],
        cwd=ROOT,
        env=ray.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.ray
@pytest.mark.timeout(4 * PATIENCE_S)  # three jobs, and the servers before them
def test_a_second_job_goes_on_where_the_first_ended(
    local_ray: LocalRay, local_mlflow: LocalMlflow, tmp_path: Path
) -> None:
    tokens, client = write_tokens(tmp_path / "tokens"), MlflowClient(local_mlflow.uri)
    first = train(local_ray, local_mlflow, tokens, tmp_path / "out", "steps=3")
    second = train(local_ray, local_mlflow, tokens, tmp_path / "out", "steps=5", "parallel=fsdp")
    assert first["run_id"] == second["run_id"]
    assert [m.step for m in client.get_metric_history(first["run_id"], "loss")] == [1, 2, 3, 4, 5]
    run = client.get_run(first["run_id"])
    assert (run.info.status, run.data.tags["restarts"]) == ("FINISHED", "1")
    assert run.data.tags["model_hash"] == second["hash"]
    hours = [m.value for m in client.get_metric_history(first["run_id"], "device_hours")]
    assert hours == sorted(hours)
    assert read_card(Path(second["s2s"])).step == 5

    other = train(local_ray, local_mlflow, tokens, tmp_path / "other", "steps=1", "--from", second["s2s"])
    assert read_card(Path(other["s2s"])).parents["begin_from"] == second["hash"]
