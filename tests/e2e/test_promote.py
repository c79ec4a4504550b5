"""Promotion as a user starts it: tiny bundles, planted dialogues, a real MLflow, a live service."""

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from mlflow.tracking import MlflowClient

from jobs import promote, promotion
from jobs import report as report_job
from paluku.client.record import Report
from paluku.client.session import Conversation, connect
from paluku.cluster.local import LocalRay
from paluku.evals.gates import KEYS, Measured
from paluku.protocol.messages import Hello
from paluku.registry.bundle import read_bundle
from paluku.registry.server import LocalMlflow
from paluku.registry.store import point, register
from tests.fakes.bundle import tiny_bundle
from tests.fakes.folders import write_folder
from tests.fakes.planted import judge_lightly, planted
from tests.unit.evals.test_codec_report import Reader

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # a busy machine takes its time

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180
RATE_HZ, FRAME_SAMPLES, FRAME_S = 16_000, 640, 0.04
GOOD = dict.fromkeys(KEYS, 0.8) | {
    "perplexity": 3.0,
    "tick_p99_ms": 10.0,
    "codec_pesq": 2.0,
    "cer_romanised": 0.2,
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of one codec."""
    return [tiny_bundle(tmp_path_factory.mktemp(f"bundle{seed}"), seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dialogues")
    write_folder(folder, "dialogues", [planted(number) for number in range(2)])
    return folder


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    judge_lightly(monkeypatch)


class Promotion(NamedTuple):
    """What came of it; `code` is the job's."""

    code: int
    said: dict[str, Any]
    errors: str


class Promoter:
    """Runs the job in this process."""

    def __init__(self, uri: str, name: str, tmp_path: Path, patch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.uri, self.name, self._tmp_path, self._patch, self._capsys = uri, name, tmp_path, patch, capsys
        self.client = MlflowClient(uri)

    def __call__(self, bundle: Path, *settings: str) -> Promotion:
        parts = bundle.parent
        where = [f"codec={parts / 'codec'}", f"s2s={parts / 's2s'}", f"out={self._tmp_path / 'made'}"]
        where += [f"cache={self._tmp_path / 'cache'}", f"tracking_uri={self.uri}", f"name={self.name}"]
        argv = ["promote", str(ROOT / "jobs" / "configs" / "promote.yaml"), *where, *settings]
        self._patch.setattr(sys, "argv", argv)
        code = 0
        try:
            promote.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        heard = self._capsys.readouterr()
        lines = heard.out.splitlines()
        return Promotion(code, json.loads(lines[-1]) if lines else {}, heard.err)

    def at(self, alias: str) -> int:
        return int(self.client.get_model_version_by_alias(self.name, alias).version)


@pytest.fixture
def promoter(
    local_mlflow: LocalMlflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Promoter:
    return Promoter(local_mlflow.uri, request.node.name[:40], tmp_path, monkeypatch, capsys)


def test_random_weights_are_judged_refused_and_forced(
    promoter: Promoter, bundles: list[Path], dialogues: Path, tmp_path: Path
) -> None:
    asked = [f"dialogues={dialogues}", "cases=1", "ticks=5", "seats=1", "samples=1"]
    refused = promoter(bundles[0], *asked)
    assert (refused.code, refused.said["promoted"], refused.said["alias"]) == (1, False, "candidate")
    assert any(
        said.startswith("perplexity of the first codebook: candidate 2") for said in refused.said["failed"]
    )
    assert "gate: replies that fit: candidate 0.0%, no champion" in refused.errors
    assert promoter.at("candidate") == refused.said["version"] == 1
    with pytest.raises(Exception, match="champion"):
        promoter.at("champion")

    run = promoter.client.get_run(refused.said["run_id"])
    assert run.data.tags["promotion"] == "refused"
    assert "replies that fit" in run.data.tags["failed_gates"]
    assert run.data.metrics["gate/perplexity"] == 0.0
    assert run.data.metrics["candidate/perplexity"] > 10
    assert run.inputs.dataset_inputs[0].dataset.name == "dialogues"
    files = {each.path for each in promoter.client.list_artifacts(run.info.run_id)}
    assert {"report.html", "comparison.json", "candidate", "codec"} <= files
    page = (tmp_path / "made.judged" / "report.html").read_text(encoding="utf-8")
    assert not Reader(page).open
    assert "gates refuse it" in page

    forced = promoter(bundles[0], *asked, "force=true", "reason=the first of all")
    assert (forced.code, forced.said["promotion"]) == (0, "forced")
    assert promoter.at("champion") == forced.said["version"] == 2
    version = promoter.client.get_model_version(promoter.name, "2")
    assert {"promotion": "forced", "reason": "the first of all"}.items() <= version.tags.items()

    again = promoter(bundles[1], *asked)
    assert again.code == 1
    compared = json.loads((tmp_path / "made.judged" / "comparison.json").read_text(encoding="utf-8"))
    assert set(compared["numbers"]) == set(compared["ticks_ms"]) == {"candidate", "champion"}
    # The same codec on the same dialogues: the same number.
    assert compared["codec_rows"][0]["stoi"] == compared["codec_rows"][1]["stoi"]
    assert promoter.at("champion") == 2


def numbers_of(monkeypatch: pytest.MonkeyPatch, **by_seed: dict[str, float]) -> None:
    """Stand in for the hour of judging: numbers by what a bundle's folder is."""

    class Judged(NamedTuple):
        measured: Measured

    found = {who: Judged(Measured(numbers)) for who, numbers in by_seed.items()}
    monkeypatch.setattr(promotion, "judged", lambda folders, config: {who: found[who] for who in folders})
    monkeypatch.setattr(promotion, "write", lambda *_: [])
    monkeypatch.setattr(promotion, "log", lambda *_: None)


def test_the_alias_moves_only_when_every_gate_is_passed(
    promoter: Promoter, bundles: list[Path], dialogues: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = f"dialogues={dialogues}"
    numbers_of(monkeypatch, candidate=GOOD)
    first = promoter(bundles[0], asked)
    assert (first.code, first.said["promotion"], first.said["failed"]) == (0, "passed", [])
    assert promoter.at("champion") == 1

    numbers_of(monkeypatch, candidate=GOOD | {"reply_accuracy": 0.5}, champion=GOOD)
    worse = promoter(bundles[1], asked)
    assert worse.said["failed"] == [
        "replies that fit: candidate 50.0%, champion 80.0%; 77.0% is asked at least"
    ]
    assert (worse.code, promoter.at("champion"), promoter.at("candidate")) == (1, 1, 2)
    let_through = promoter(bundles[1], asked, "gates.reply_accuracy.margin=0.4")
    assert (let_through.code, promoter.at("champion")) == (0, 3)


def test_a_champion_that_came_meanwhile_stays(
    promoter: Promoter, bundles: list[Path], dialogues: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers_of(monkeypatch, candidate=GOOD, champion=GOOD)
    asked = f"dialogues={dialogues}"
    assert promoter(bundles[0], asked).code == 0
    assert promoter(bundles[1], "alias=candidate").code == 0
    judged = promotion.judged

    def another_is_faster(*given: Any) -> Any:
        point(promoter.name, "champion", 2, promoter.uri)
        return judged(*given)

    monkeypatch.setattr(promotion, "judged", another_is_faster)
    late = promoter(bundles[0], asked)
    assert (late.code, promoter.at("champion")) == (1, 2)
    assert late.said["failed"] == [
        "while it was judged against version 1, 2 became the champion; judge it against that"
    ]


def test_a_champion_whose_files_are_lost_can_be_replaced(promoter: Promoter, bundles: list[Path]) -> None:
    register(bundles[0], promoter.name, promoter.uri, "")
    client, name = promoter.client, promoter.name
    run = client.get_run(str(client.get_model_version(name, "1").run_id))
    lost = client.create_model_version(name, f"{run.info.artifact_uri}/nothing", run_id=run.info.run_id)
    point(name, "champion", int(lost.version), promoter.uri)
    forced = promoter(bundles[1], "force=true", "reason=the champion is lost")
    assert (forced.code, promoter.at("champion")) == (0, 3)


def test_without_dialogues_every_gate_says_what_is_missing(promoter: Promoter, bundles: list[Path]) -> None:
    refused = promoter(bundles[0])
    assert refused.code == 1
    assert len(refused.said["failed"]) == len(KEYS)
    assert "no dialogues were given; set dialogues=FOLDER" in refused.said["failed"][0]
    assert promoter(bundles[0], "alias=candidate").said["alias"] == "candidate"
    assert promoter.at("candidate") == 2


def test_force_without_a_reason_is_one_line(promoter: Promoter, bundles: list[Path]) -> None:
    refused = promoter(bundles[0], "force=true")
    assert refused.code == 2
    assert "force=true needs reason=TEXT" in refused.errors


def test_a_report_of_the_shipped_kind_is_written_and_logged(
    promoter: Promoter, bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stream = tmp_path / "stream.json"
    stream.write_text(
        json.dumps({"reaction": {"mean_ms": 90.0, "std_ms": 10.0, "p99_ms": 120.0, "count": 9}})
    )
    out = tmp_path / "report.html"
    argv = [
        "report",
        str(bundles[0]),
        "--stream",
        str(stream),
        "--out",
        str(out),
        "--tracking-uri",
        promoter.uri,
    ]
    monkeypatch.setattr(sys, "argv", argv)
    report_job.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"report": str(out)}
    assert "python -m jobs.report" in out.read_text(encoding="utf-8")
    found = promoter.client.get_experiment_by_name("s2s")
    assert found is not None
    run = promoter.client.search_runs([found.experiment_id], "attributes.run_name = 'report of bundle'")[0]
    assert [each.path for each in promoter.client.list_artifacts(run.info.run_id)] == [
        "config.json",
        "report.html",
    ]
    assert run.data.tags["s2s_hash"] == read_bundle(bundles[0]).s2s


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--stream", "no_such.json"], "--stream: no_such.json cannot be read"),
        (["--url", "nonsense"], "nonsense/metrics does not answer"),
    ],
)
def test_a_report_of_what_is_not_there_is_one_line(
    bundles: list[Path], given: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", str(bundles[0]), *given])
    with pytest.raises(SystemExit, match="2"):
        report_job.main()
    assert message in capsys.readouterr().err


class Live(NamedTuple):
    """A deployed application that serves `models:/live@champion`."""

    ray: LocalRay

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ray.serve_port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.ray.serve_port}/ws"

    def get(self, route: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.url}/{route}", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return {}

    def until(self, route: str, holds: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not ((found := self.get(route)) and holds(found)):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)


@pytest.fixture(scope="module")
def live(
    local_mlflow: LocalMlflow, bundles: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    register(bundles[0], "live", local_mlflow.uri, "")
    folder = tmp_path_factory.mktemp("live")
    # A cluster of its own: other tests deploy their own application of this name.
    with LocalRay() as ray:
        config = yaml.safe_load((ROOT / "serve_apps" / "speech.local.yaml").read_text(encoding="utf-8"))
        config["http_options"]["port"] = ray.serve_port
        (application,) = config["applications"]
        application["args"] |= {"tracking_uri": local_mlflow.uri, "cache": str(folder), "num_seats": 2}
        application["args"]["topology"] = "fused"
        application["runtime_env"] = {"working_dir": f"local://{ROOT}"}
        application["deployments"] = [
            {"name": "Ingress", "ray_actor_options": {"num_cpus": 0.1}},
            {"name": "Memory", "ray_actor_options": {"num_cpus": 0.1}},
            {
                "name": "Speech",
                "ray_actor_options": {"num_cpus": 0.1},
                "user_config": {"bundle": "models:/live@champion"},
            },
        ]
        path = folder / "speech.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        serve = str(Path(sys.executable).with_name("serve"))
        command = [serve, "deploy", str(path), "--address", ray.dashboard_url]
        done = subprocess.run(command, env=ray.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = Live(ray)
        found.until("health", lambda health: health["status"] == "ok")
        yield found


def test_a_live_session_survives_the_promotion_of_another_model(
    live: Live,
    promoter: Promoter,
    bundles: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promoter.name = "live"
    before = live.get("health")["bundle"]
    assert before == read_bundle(bundles[0]).digest()
    is_enough = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        talking = pool.submit(asyncio.run, talk_until(live.websocket_url, is_enough))
        try:
            live.until("stats", lambda stats: stats["sessions"] == 1 and stats["frames_out"] > 0)
            monkeypatch.setenv("A_TOKEN", live.ray.env["RAY_AUTH_TOKEN"])
            served = [f"serve_url={live.ray.dashboard_url}", "serve_key_env=A_TOKEN"]
            served.append(f"endpoint_url={live.url}")
            promoted = promoter(bundles[1], "force=true", "reason=a reload is tried", *served)
            assert promoted.code == 0, promoted.errors
            assert live.get("health")["bundle"] == read_bundle(bundles[1]).digest() != before
            live.until("stats", lambda stats: stats["moves"].get("reload", 0) == 1)
            moved_at = live.get("stats")["frames_out"]
            live.until("stats", lambda stats: stats["frames_out"] > moved_at + 10)
        finally:
            is_enough.set()  # else the thread would talk for ever, and the tests never end
        told = talking.result(PATIENCE_S)
    # One session from its first frame to its last: it was not even asked to connect again.
    assert told.frames_out == told.frames_in > 0
    assert (told.lost_frames, told.resumes) == (0, 0)


async def talk_until(url: str, is_enough: threading.Event) -> Report:
    """Noise, a frame every 40 ms, over one session."""
    noise = (np.random.default_rng(0).standard_normal(FRAME_SAMPLES) * 3000).astype(np.int16)

    async def speak(talk: Conversation) -> None:
        while not is_enough.is_set():
            talk.send(noise)
            await asyncio.sleep(FRAME_S)
        talk.end()

    async with connect(url, Hello(sample_rate_hz=RATE_HZ), aligns=False) as talk:
        speaking = asyncio.create_task(speak(talk))
        async for _ in talk:
            pass
        await speaking
    return talk.report
