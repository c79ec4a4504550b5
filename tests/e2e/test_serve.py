"""The shipped application on a real Ray cluster: stages, Memory, ingress, HAProxy, our client."""

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
    application["args"] |= {"cache": str(folder), "num_seats": 2}
    application["runtime_env"] = {"working_dir": f"local://{ROOT}"}
    for deployment in application["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
        if "user_config" in deployment:
            deployment["user_config"] = {"bundle": str(bundle)}
        if deployment["name"] == "Converse":
            deployment["num_replicas"] = 2  # one will be killed under its session
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
        [*command, "--json", *(options if "--tail" in options else ("--tail", "0", *options))],
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


def test_the_page_is_answered_with_its_files(url: str) -> None:
    """Serve carries `serve_apps/web` to the ingress, and HAProxy lets its headers pass."""
    with urllib.request.urlopen(f"http://{url}/", timeout=5) as answer:
        page, headers = answer.read().decode(), answer.headers
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert page == (ROOT / "serve_apps" / "web" / "index.html").read_text(encoding="utf-8")
    with urllib.request.urlopen(f"http://{url}/web/page.js", timeout=5) as answer:
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.read() == (ROOT / "serve_apps" / "web" / "page.js").read_bytes()


def test_two_streams_at_once_are_answered_frame_by_frame(url: str, question: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "same.wav", tmp_path / "again.wav"]
    clients = [speak(url, question, out, "--voice", "ravi", "--seed", "7") for out in outs]
    reports = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
    assert [(r["frames_in"], r["frames_out"], r["lost_frames"]) for r in reports] == [
        (50, 50, 0),
        (50, 50, 0),
    ]
    # Two seats, one seed: a seat's sound depends on its own seed and words alone.
    one, two = (read(out)[0] for out in outs)
    assert len(one) == 50 * 640
    assert np.abs(one).max() > 0
    assert np.array_equal(one, two)
    wait_for(lambda: get(url, "stats")["seats_used"] == 0)


def test_a_third_stream_is_refused_while_two_are_seated(url: str, question: Path, tmp_path: Path) -> None:
    seated = [speak(url, question, tmp_path / f"{n}.wav", "--tail", "4") for n in range(2)]
    wait_for(lambda: get(url, "stats")["sessions"] == 2)
    refused = speak(url, question, tmp_path / "refused.wav")
    assert "all 2 seats are taken" in refused.communicate(timeout=30)[1]
    assert refused.returncode == 2
    for client in seated:
        client.communicate(timeout=60)
    assert [client.returncode for client in seated] == [0, 0]


def test_a_killed_stage_costs_its_session_no_frame(
    local_ray: LocalRay, url: str, question: Path, tmp_path: Path
) -> None:
    wait_for(lambda: get(url, "stats")["stages"]["converse"]["replicas"] == 2)
    clients = [
        speak(url, question, tmp_path / f"{n}.wav", "--seed", "7", "--voice", "ravi", "--tail", "4")
        for n in range(2)
    ]
    title, before = "ServeReplica:speech:Converse", get(url, "stats")["frames_out"]
    idle_s = cpu_s(local_ray, title)
    wait_for(lambda: get(url, "stats")["frames_out"] >= before + 100)
    # The one that works is the one that holds sessions.
    max(cpu_s(local_ray, title).items(), key=lambda item: item[1] - idle_s[item[0]])[0].kill()
    said = [client.communicate(timeout=60) for client in clients]
    assert [client.returncode for client in clients] == [0, 0], said
    reports = [json.loads(out) for out, _ in said]
    assert [(r["frames_out"], r["lost_frames"], r["resumes"]) for r in reports] == [(150, 0, 0), (150, 0, 0)]
    assert get(url, "stats")["moves"]["crash"] >= 1
    # Sampling counts positions: the one that moved says what the other says.
    one, two = (read(tmp_path / f"{n}.wav")[0] for n in range(2))
    assert np.array_equal(one, two)


def cpu_s(ray: LocalRay, title: str) -> dict[psutil.Process, float]:
    """What each process of our own cluster that carries the title has computed."""
    assert ray._process is not None
    family = psutil.Process(ray._process.pid).children(recursive=True)
    found = [member for member in family if any(title in word for word in member.cmdline())]
    return {member: member.cpu_times().user for member in found}


def wait_for(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)
