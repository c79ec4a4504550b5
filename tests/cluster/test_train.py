"""Codec training as a user starts it: real Ray Train, a real MLflow server, and a worker that dies."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient

from paluku.cluster.local import LocalRay
from paluku.registry.artefact import read_card
from paluku.registry.server import LocalMlflow
from tests.fakes.training import RATE_HZ, tiny_run
from tests.fakes.utterances import write_utterances

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
STEPS, CHECKPOINT_EVERY = 60, 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    return write_utterances(folder, train=8, dev=4, duration_s=1.0, rate_hz=RATE_HZ)


def start(ray: LocalRay, mlflow: LocalMlflow, corpus: Path, out: Path) -> subprocess.Popen[str]:
    changes = {"steps": STEPS, "checkpoint_every": CHECKPOINT_EVERY, "evaluate_every": STEPS}
    out.mkdir()
    config = out / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_run(corpus, out, **changes).model_dump(mode="json")))
    placed = [f"placement.storage={out / 'storage'}", f"placement.tracking_uri={mlflow.uri}"]
    placed += ["placement.price_per_hour=3.6"]
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.train_codec", str(config), *placed],
        cwd=ROOT,
        env=ray.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, str]:
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def kill_a_worker_after_a_checkpoint(ray: LocalRay, storage: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not list(storage.glob("*/checkpoint_*/card.json")):
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    assert ray._process is not None
    family = psutil.Process(ray._process.pid).children(recursive=True)
    workers = [p for p in family if any("RayTrainWorker" in word for word in p.cmdline())]
    assert len(workers) == 2
    workers[1].kill()


@pytest.mark.ray
def test_a_killed_worker_changes_nothing_but_the_time(
    local_ray: LocalRay, local_mlflow: LocalMlflow, corpus: Path, tmp_path: Path
) -> None:
    straight = finish(start(local_ray, local_mlflow, corpus, tmp_path / "straight"))
    process = start(local_ray, local_mlflow, corpus, tmp_path / "killed")
    kill_a_worker_after_a_checkpoint(local_ray, tmp_path / "killed" / "storage")
    killed = finish(process)

    assert killed["hash"] == straight["hash"]
    assert read_card(Path(killed["codec"])).step == STEPS
    client = MlflowClient(local_mlflow.uri)
    curves = {}
    for name, done in {"straight": straight, "killed": killed}.items():
        assert client.get_run(done["run_id"]).info.status == "FINISHED"
        assert client.get_run(done["run_id"]).data.params["model.num_codebooks"] == "4"
        curves[name] = client.get_metric_history(done["run_id"], "loss")
    assert [m.step for m in curves["straight"]] == list(range(1, STEPS + 1))
    # One run, the same curve; what came after the last checkpoint was done, and is written, twice.
    assert {(m.step, m.value) for m in curves["killed"]} == {(m.step, m.value) for m in curves["straight"]}
    again = len(curves["killed"]) - STEPS
    assert 0 <= again <= 2 * CHECKPOINT_EVERY
    run = client.get_run(killed["run_id"]).data
    assert run.tags["model_hash"] == killed["hash"]
    assert run.tags["corpus_hash"] == read_card(Path(killed["codec"])).parents["corpus"]
    # What both attempts took: it only grows, and costs what the placement says.
    hours = [m.value for m in client.get_metric_history(killed["run_id"], "device_hours")]
    assert hours == sorted(hours)
    assert run.metrics["cost"] == pytest.approx(3.6 * run.metrics["device_hours"])
    assert (run.tags["price_per_hour"], run.tags["price_currency"]) == ("3.6", "USD")
    files = {f.path for f in client.list_artifacts(killed["run_id"], "checkpoints")}
    assert f"checkpoints/step-{STEPS:06d}" in files


@pytest.mark.ray
def test_a_corpus_that_is_not_there_is_one_line(
    local_ray: LocalRay, local_mlflow: LocalMlflow, tmp_path: Path
) -> None:
    process = start(local_ray, local_mlflow, tmp_path / "nowhere", tmp_path / "out")
    errors = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 2
    assert "holds no manifest.json" in errors.splitlines()[-1]
