"""The real application on a real Ray cluster: three stage replicas, the ingress, HAProxy, our client."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from paluku.audio import from_pcm16, read, write_wav
from paluku.cluster.local import LocalRay
from tests.fakes.bundle import tiny_bundle

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def url(local_ray: LocalRay, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The deployed application's address: what the shipped config deploys, with this bundle."""
    folder = tmp_path_factory.mktemp("serve")
    config = yaml.safe_load((ROOT / "serve_apps" / "speech.local.yaml").read_text(encoding="utf-8"))
    config["http_options"]["port"] = local_ray.serve_port
    (application,) = config["applications"]
    application["args"] |= {"bundle": str(bundle), "cache": str(folder), "num_seats": 2}
    application["runtime_env"] = {"working_dir": f"local://{ROOT}"}
    path = folder / "speech.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    serve(local_ray, "deploy", str(path))
    url = f"127.0.0.1:{local_ray.serve_port}"
    deadline = time.monotonic() + PATIENCE_S
    while not answers(url):
        assert time.monotonic() < deadline, serve(local_ray, "status")
        time.sleep(0.5)
    return url  # it ends with the cluster: `serve shutdown` would first drain it for half a minute


def serve(ray: LocalRay, *words: str) -> str:
    command = [str(Path(sys.executable).with_name("serve")), *words, "--address", ray.dashboard_url]
    done = subprocess.run(command, env=ray.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(url: str) -> bool:
    try:
        return get(url, "health")["status"] == "ok"
    except OSError:
        return False


def get(url: str, route: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{url}/{route}", timeout=5) as answer:
        return json.load(answer)


def speak(url: str, file: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "paluku.client", str(file), "--out", str(out), "--url", f"ws://{url}/ws"]
    return subprocess.Popen(
        [*command, "--tail", "0", "--json", *options],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """Two seconds of noise: 50 frames."""
    noise = np.random.default_rng(0).standard_normal(2 * RATE_HZ) * 3000
    write_wav(tmp_path / "question.wav", from_pcm16(noise.astype(np.int16)), RATE_HZ)
    return tmp_path / "question.wav"


def test_two_streams_at_once_are_answered_frame_by_frame(url: str, question: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "same.wav", tmp_path / "again.wav"]
    clients = [speak(url, question, out, "--voice", "ravi", "--seed", "7") for out in outs]
    reports = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
    assert [(r["frames_in"], r["frames_out"]) for r in reports] == [(50, 50), (50, 50)]
    assert all(r["reaction"]["count"] == 49 * 8 for r in reports)
    # Two seats, one seed: a seat's sound depends on its own seed and words alone.
    one, two = (read(out)[0] for out in outs)
    assert len(one) == 50 * 640
    assert np.abs(one).max() > 0
    assert np.array_equal(one, two)
    stats = get(url, "stats")
    assert stats["frames_out"] == 100
    assert stats["seats_used"] == 0


def test_a_third_stream_is_refused_while_two_are_seated(url: str, question: Path, tmp_path: Path) -> None:
    seated = [speak(url, question, tmp_path / f"{n}.wav") for n in range(2)]
    wait_for(lambda: get(url, "stats")["seats_used"] == 2)
    refused = speak(url, question, tmp_path / "refused.wav")
    assert "all 2 seats are taken; try again in 5 s" in refused.communicate(timeout=30)[1]
    assert refused.returncode == 2
    for client in seated:
        client.communicate(timeout=60)
    assert [client.returncode for client in seated] == [0, 0]


def test_a_killed_stage_ends_its_sessions_and_serving_goes_on(
    local_ray: LocalRay, url: str, question: Path, tmp_path: Path
) -> None:
    cut = speak(url, question, tmp_path / "cut.wav")
    wait_for(lambda: get(url, "stats")["sessions"] == 1)
    kill_replica(local_ray, "ServeReplica:speech:Converse")
    assert "stage_lost" in cut.communicate(timeout=30)[1]
    assert cut.returncode == 2
    wait_for(lambda: get(url, "stats")["seats_used"] == 0)

    def answered() -> bool:
        client = speak(url, question, tmp_path / "later.wav")
        client.communicate(timeout=60)
        return client.returncode == 0

    wait_for(answered)


def kill_replica(ray: LocalRay, title: str) -> None:
    """End the one process of our own cluster that carries the title."""
    assert ray._process is not None
    family = psutil.Process(ray._process.pid).children(recursive=True)
    (replica,) = [member for member in family if any(title in word for word in member.cmdline())]
    replica.kill()


def wait_for(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)
