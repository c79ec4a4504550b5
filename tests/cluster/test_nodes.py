"""A cluster of two nodes, made by deploy/setup_node.sh, that trains and serves across both and loses one."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from paluku.audio import from_pcm16, write_wav
from paluku.registry.artefact import read_card
from paluku.serving.deploy import deploy
from tests.fakes.bundle import tiny_bundle
from tests.fakes.nodes import ROOT, TwoNodes, sweep, why_not
from tests.fakes.tokens import tiny_s2s_run, write_tokens

REASON = why_not()
pytestmark = [pytest.mark.ray, pytest.mark.timeout(900), pytest.mark.skipif(bool(REASON), reason=REASON)]

PATIENCE_S = 300
STEPS, CHECKPOINT_EVERY = 200, 50
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with TwoNodes() as nodes, pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):  # our own servers are not asked through a proxy
            patch.setenv(name, nodes.address)
        yield nodes


def until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := holds()):
        assert time.monotonic() < deadline, f"it never came to be: {what}"
        time.sleep(0.05)
    return value


def test_a_run_that_was_killed_leaves_nothing_for_long() -> None:
    code = (
        "import os, subprocess; from tests.fakes.nodes import TwoNodes; nodes = TwoNodes(); nodes.connect(); "
        "subprocess.Popen(nodes.worker.command('sleep', '600')); "
        "print(nodes.folder, os.getpid(), flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    folder, pid = killed.stdout.readline().split()
    killed.wait(PATIENCE_S)
    killed.stdout.close()
    shutil.rmtree(folder)

    def left() -> list[str]:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if f"-{pid}-" in line]

    assert len(left()) == 2
    sweep()
    assert left() == []
    assert not list(Path("/etc/netns").glob(f"*-{pid}-*"))


def loss_curve(nodes: TwoNodes, run_id: str) -> list[tuple[int, float]]:
    """Asked on a node: the server answers to the name `mlflow` and to loopback alone."""
    code = (
        "import json, sys; from mlflow.tracking import MlflowClient; "
        "history = MlflowClient(sys.argv[1]).get_metric_history(sys.argv[2], 'loss'); "
        "print(json.dumps([(m.step, m.value) for m in history]))"
    )
    command = nodes.head.command(sys.executable, "-c", code, nodes.mlflow_uri, run_id)
    done = subprocess.run(command, env=nodes.env(nodes.head), capture_output=True, text=True, check=True)
    return [(step, value) for step, value in json.loads(done.stdout.splitlines()[-1])]


def has_ended(process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None


def end(process: subprocess.Popen[str]) -> None:
    """It and its pipes, whether it has ended or not."""
    process.kill()
    with process:
        process.wait()


def start_on_head(nodes: TwoNodes, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        nodes.head.command(sys.executable, "-m", *words),
        cwd=ROOT,
        env=nodes.env(nodes.head),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_training_on_both_nodes_goes_on_when_one_is_lost_and_comes_back(nodes: TwoNodes) -> None:
    out, storage = nodes.data / "s2s", nodes.data / "train"
    run = tiny_s2s_run(
        write_tokens(nodes.data / "tokens"), out, steps=STEPS, checkpoint_every=CHECKPOINT_EVERY, batch=2
    )
    (config := nodes.data / "s2s.yaml").write_text(run.to_json())  # JSON is YAML
    placed = [f"placement.storage={storage}", f"placement.tracking_uri={nodes.mlflow_uri}"]
    process = start_on_head(nodes, "jobs.train_s2s", str(config), *placed, "placement.workers=2")
    try:
        until(lambda: list(storage.glob("*/checkpoint_*/card.json")) or has_ended(process), "a checkpoint")
        assert not has_ended(process), process.communicate()
        for node in (nodes.head, nodes.worker):
            assert any("RayTrainWorker" in title for title in node.titles()), node.name
        nodes.worker.kill_all()
        assert not has_ended(process), "it ended before its node was lost"
        nodes.start_worker()
        output, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        end(process)
    assert process.returncode == 0, errors[-3000:]
    done = json.loads(output.splitlines()[-1])
    assert read_card(Path(done["s2s"])).step == STEPS
    curve = loss_curve(nodes, done["run_id"])
    # Steps after the last checkpoint may have been done, and written, twice: with the same result.
    assert sorted(step for step, _ in set(curve)) == list(range(1, STEPS + 1))


def test_sessions_on_both_nodes_are_answered_to_the_last_frame_when_one_is_lost(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    serve_on(nodes)
    noise = np.random.default_rng(0).standard_normal(RATE_HZ) * 3000
    write_wav(tmp_path / "question.wav", from_pcm16(noise.astype(np.int16)), RATE_HZ)
    sessions = [speak(nodes, tmp_path / "question.wav", tmp_path / f"{n}.wav") for n in range(2)]
    try:
        until(lambda: both_nodes_speak(nodes), "a session on each node")
        nodes.worker.kill_all()
        said = [session.communicate(timeout=PATIENCE_S) for session in sessions]
    finally:
        for session in sessions:
            end(session)
    assert [session.returncode for session in sessions] == [0, 0], said
    reports = [json.loads(out.splitlines()[-1]) for out, _ in said]
    assert [r["lost_frames"] for r in reports] == [0, 0]
    assert all(r["frames_out"] == r["frames_in"] > 0 for r in reports)
    assert stats(nodes)["moves"]["crash"] + sum(r["resumes"] for r in reports) >= 1


def serve_on(nodes: TwoNodes) -> None:
    """The shipped application, every stage and the ingress on both nodes, Memory on the head."""
    config = yaml.safe_load((ROOT / "serve_apps" / "speech.yaml").read_text(encoding="utf-8"))
    (application,) = config["applications"]
    application["args"] |= {"cache": str(nodes.data / "models"), "num_seats": 2, "torch_threads": 1}
    application["args"] |= {"tracking_uri": nodes.mlflow_uri, "autoscaling": None}
    bundle = tiny_bundle(nodes.data)
    for deployment in application["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
        deployment |= {"num_replicas": 2, "max_replicas_per_node": 1}
        if "user_config" in deployment:
            deployment["user_config"] = {"bundle": str(bundle)}
        if deployment["name"] == "Memory":
            deployment |= {
                "num_replicas": 1,
                "ray_actor_options": {"num_cpus": 0, "resources": {"keeper": 0.01}},
            }
    path = nodes.data / "speech.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    deploy(path, "speech", nodes.dashboard_url, nodes.url, nodes.env(nodes.head))


def speak(nodes: TwoNodes, file: Path, out: Path) -> subprocess.Popen[str]:
    url = f"ws://{nodes.address}:8000/ws"
    words = ("paluku.client", str(file), "--out", str(out), "--url", url, "--tail", "8", "--json")
    return subprocess.Popen(
        [sys.executable, "-m", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def stats(nodes: TwoNodes) -> dict[str, Any]:
    with urllib.request.urlopen(f"{nodes.url}/stats", timeout=5) as answer:
        return json.load(answer)


def both_nodes_speak(nodes: TwoNodes) -> bool:
    """Two sessions are spread over two replicas, of which there is one a node."""
    found = stats(nodes)["stages"]["converse"]
    return (found["replicas"], found["seats_used"]) == (2, 2)
