"""What the serving code needs of Ray Serve, on a real cluster with stand-in stages."""

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from paluku.cluster.local import LocalRay

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90
SEATS = 10
DRAIN_S = 4.0


class Graph:
    """The deployed application, and what can be done to it."""

    def __init__(self, ray: LocalRay, folder: Path) -> None:
        self._ray, self._path = ray, folder / "graph.yaml"
        self.fixed: dict[str, Any] = {
            "name": "Fixed",
            "num_replicas": 2,
            "user_config": {"bundle": "first", "load_s": 0.0},
        }

    def deploy(self) -> None:
        application = {
            "name": "graph",
            "route_prefix": "/",
            "import_path": "tests.fakes.graph:app",
            "args": {"seats": SEATS, "drain_s": DRAIN_S},
            "runtime_env": {"working_dir": f"local://{ROOT}"},
            "deployments": [self.fixed],
        }
        http = {"host": "127.0.0.1", "port": self._ray.serve_port}
        self._path.write_text(yaml.safe_dump({"http_options": http, "applications": [application]}))
        serve = str(Path(sys.executable).with_name("serve"))
        command = [serve, "deploy", str(self._path), "--address", self._ray.dashboard_url]
        done = subprocess.run(command, env=self._ray.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def ask(self, what: str, **query: Any) -> Any:
        url = f"http://127.0.0.1:{self._ray.serve_port}/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def members(self, fleet: str) -> dict[str, Any]:
        try:
            return self.ask("members", fleet=fleet)
        except OSError:  # the probe itself is being replaced
            return {}

    def standing(self, fleet: str) -> list[str]:
        return [name for name, member in self.members(fleet).items() if not member["is_leaving"]]

    def until(self, holds: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (value := holds()):
            assert time.monotonic() < deadline, (self.members("fixed"), self.members("scaled"))
            time.sleep(0.1)
        return value

    def kill(self, title: str) -> None:
        """kill -9 to the first process of our cluster with this title."""
        assert self._ray._process is not None
        family = psutil.Process(self._ray._process.pid).children(recursive=True)
        next(member for member in family if any(title in word for word in member.cmdline())).kill()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    # A cluster of its own: the application would hold processors that other tests' workers wait for.
    with LocalRay() as ray:
        graph = Graph(ray, tmp_path_factory.mktemp("graph"))
        graph.deploy()
        graph.until(lambda: len(graph.standing("fixed")) == 2 and graph.standing("scaled"))
        yield graph


def test_every_call_reaches_the_replica_it_names(graph: Graph) -> None:
    called = graph.ask("call", fleet="fixed", count=400)
    print(called)
    assert called["astray"] == 0


def test_stated_errors_arrive_as_themselves_and_all_others_mean_lost(graph: Graph) -> None:
    replica, other = graph.standing("fixed")
    opened = [graph.ask("open", fleet="fixed", replica=replica, session=f"s{n}") for n in range(SEATS)]
    assert opened == [str(n + 1) for n in range(SEATS)]
    refused = graph.ask("open", fleet="fixed", replica=replica, session="one too many")
    assert refused == "SeatsExhausted: all seats are taken; 5.0"
    assert graph.ask("open", fleet="fixed", replica=other, session="there").isdigit()
    assert graph.ask("adjust", fleet="fixed", replica=other, lease=99) == "LeaseGoneError"
    assert graph.ask("open", fleet="fixed", replica=other, session="broken").startswith("StageLostError")
    for each in (replica, other):
        graph.ask("close", fleet="fixed", replica=each, leases=SEATS)


def test_a_model_is_reloaded_in_place_and_the_replica_answers_meanwhile(graph: Graph) -> None:
    before = set(graph.standing("fixed"))
    watched = min(before)
    graph.fixed["user_config"] = {"bundle": "second", "load_s": 1.5}
    graph.deploy()
    answers = []

    def loaded() -> bool:
        answers.append(graph.ask("step", fleet="fixed", replica=watched))
        members = graph.members("fixed").values()
        return all(m["bundles"] == ["first", "second"] and not m["is_leaving"] for m in members)

    graph.until(loaded)
    assert set(graph.standing("fixed")) == before
    assert set(answers) == {"stepped"}


def test_a_replica_that_leaves_answers_for_its_wait_loop(graph: Graph) -> None:
    both = graph.standing("fixed")
    with ThreadPoolExecutor() as pool:
        stepping = {
            name: pool.submit(graph.ask, "keep_stepping", fleet="fixed", replica=name) for name in both
        }
        graph.fixed["num_replicas"] = 1
        graph.deploy()
        (leaving,) = graph.until(lambda: set(both) - set(graph.standing("fixed")))
        ended = stepping[leaving].result()
        print(ended)
        assert ended["error"] == "StageLostError"
        # No duration of ours: what Serve was told to wait for is the time in which sessions can move.
        assert ended["left_s"] > DRAIN_S / 2
        (staying,) = graph.until(lambda: list(graph.members("fixed")))
        assert staying != leaving
        assert graph.ask("step", fleet="fixed", replica=staying) == "stepped"
        graph.kill("ServeReplica:graph:Fixed")
        killed = stepping[staying].result()
        print(killed)
    assert killed["error"] == "StageLostError"
    (fresh,) = graph.until(lambda: graph.standing("fixed"))
    assert fresh not in both


def test_replicas_come_and_go_with_the_seats(graph: Graph) -> None:
    (first,) = graph.standing("scaled")
    for n in range(SEATS):
        graph.ask("open", fleet="scaled", replica=first, session=f"s{n}")
    began_s = time.monotonic()
    graph.until(lambda: len(graph.standing("scaled")) == 2)
    print("up after", time.monotonic() - began_s)
    graph.ask("close", fleet="scaled", replica=first, leases=SEATS)
    began_s = time.monotonic()
    graph.until(lambda: len(graph.standing("scaled")) == 1)
    print("down after", time.monotonic() - began_s)


def test_memory_outlives_the_ingress_and_changes_hands(graph: Graph) -> None:
    assert graph.ask("push", owner="a", token="t", frames=20) == []
    before = graph.ask("pid")
    graph.kill("ServeReplica:graph:Probe")

    def comes_back() -> bool:
        try:
            return graph.ask("pid") != before
        except OSError:
            return False

    graph.until(comes_back)
    assert graph.ask("claim", owner="b", token="t") == [19, 20]
    assert graph.ask("push", owner="a", token="t", frames=3) == ["t"]
    assert graph.ask("claim", owner="b", token="unknown") is None
