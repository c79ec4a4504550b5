import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import psutil
import pytest
import yaml
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from paluku.cluster.local import LocalRay, end_tree
from paluku.cluster.ports import FIRST, LAST, LOOPBACK, claim, free_ports
from paluku.errors import ServiceError
from paluku.serving.deploy import deploy

ROOT = Path(__file__).resolve().parents[2]


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(FIRST <= port < LAST for port in ports)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port}, wanted for Serve, is in use.*pass --port"):
            claim(port, "Serve", "pass --port")


def test_the_whole_tree_ends_even_what_ignores_sigterm() -> None:
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    assert len(family) == 2
    end_tree(process)
    process.stdout.close()
    assert not [pid for pid in family if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


@pytest.mark.ray
def test_a_cluster_runs_tasks_and_nothing_of_it_stays() -> None:
    code = (
        "import ray; ray.init(log_to_driver=False)\n"
        "print(sum(ray.get([ray.remote(lambda n: n * n).remote(n) for n in range(4)])))"
    )
    with LocalRay() as cluster:
        done = subprocess.run(
            [sys.executable, "-c", code], env=cluster.env, capture_output=True, text=True, check=True
        )
        folder = str(cluster.folder)
        assert done.stdout.split()[-1] == "14"
    assert not cluster.folder.exists()
    left = [
        p for p in psutil.process_iter(["cmdline", "status"]) if folder in " ".join(p.info["cmdline"] or [])
    ]
    assert not [p for p in left if p.info["status"] != "zombie"]


@pytest.mark.ray
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_stack_that_is_stopped_while_it_starts_leaves_nothing(sign: int, tmp_path: Path) -> None:
    code = (
        "import signal, sys; from pathlib import Path; from jobs.stack import Stack\n"
        # Whoever started the tests in the background has SIGINT ignored, and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Stack(Path(sys.argv[1])): print('up')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    me = psutil.Process(process.pid)
    while not (head := [p for p in me.children() if "start" in p.cmdline()]):
        assert process.poll() is None, "it ended before Ray began to start"
        time.sleep(0.05)
    family = [p.pid for p in me.children(recursive=True)]
    assert head[0].pid in family
    process.send_signal(sign)
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert b"up" not in output
    assert not [pid for pid in family if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


TINY = """
from fastapi import FastAPI
from ray import serve
from starlette.websockets import WebSocket

from paluku.protocol.messages import CloseCode
from paluku.serving.gate import Refused, deny

api = FastAPI()

@api.get("/health")
def health() -> str:
    return "ok"

@api.websocket("/ws")
async def talk(socket: WebSocket) -> None:
    await deny(socket, Refused(429, CloseCode.TRY_AGAIN, "too_many_sessions", "end one first", 3))

@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(api)
class Tiny:
    pass

app = Tiny.bind()
"""


def listening(root: psutil.Process) -> list[tuple[str, str, int]]:
    """Address, program and port of every socket of a process tree that takes connections or datagrams."""
    found = []
    for process in (root, *root.children(recursive=True)):
        try:
            for connection in process.net_connections("inet"):
                is_datagram = connection.type == socket.SOCK_DGRAM and not connection.raddr
                if connection.status == psutil.CONN_LISTEN or is_datagram:
                    found.append((connection.laddr.ip, process.name(), connection.laddr.port))
        except psutil.NoSuchProcess:
            continue
    return found


def listening_whole(root: psutil.Process) -> list[tuple[str, str, int]]:
    """As `listening`, once HAProxy has its sockets: each change of targets hands them to a new process."""
    deadline_s = time.monotonic() + 30
    while True:
        sockets = listening(root)
        if len([port for _, program, port in sockets if program == "haproxy"]) == 3:
            return sockets
        assert time.monotonic() < deadline_s, f"the tree was not seen whole: {sockets}"
        time.sleep(0.2)


@pytest.mark.ray
def test_every_port_is_bound_to_loopback_but_one_and_that_wants_the_token(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    with LocalRay() as cluster:
        application = {
            "name": "tiny",
            "route_prefix": "/",
            "import_path": "tiny:app",
            "runtime_env": {"working_dir": f"local://{tmp_path}"},
        }
        config = {
            "http_options": {"host": LOOPBACK, "port": cluster.serve_port},
            "applications": [application],
        }
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        url = f"http://{LOOPBACK}:{cluster.serve_port}"
        deploy(tmp_path / "tiny.yaml", "tiny", cluster.dashboard_url, url, cluster.env)

        assert cluster._process is not None
        sockets = listening_whole(psutil.Process(cluster._process.pid))
        programs = {program for _, program, _ in sockets}
        assert {"gcs_server", "raylet"} <= programs, "the tree was not seen whole"
        assert cluster.serve_port in {port for _, _, port in sockets}

        is_local = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
        open_to_all = [entry for entry in sockets if entry[0] not in is_local]
        # ray/serve/_private/replica.py, `_on_initialized`: "[::]:0", whatever the node's address is.
        assert [program for _, program, _ in open_to_all] == ["ray::ServeReplica:tiny:Tiny"], open_to_all
        ((_, _, port),) = open_to_all
        with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

        # What `deny` relies on: Serve and HAProxy hand an HTTP refusal of a WebSocket on to its client.
        with pytest.raises(InvalidStatus) as refused, connect(f"ws{url[4:]}/ws", proxy=None):
            pass
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["retry-after"] == "3"
        assert refused.value.response.body == b"too_many_sessions: end one first\n"
