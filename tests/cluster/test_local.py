import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from paluku.cluster.local import LocalRay, end_tree
from paluku.cluster.ports import FIRST, LAST, LOOPBACK, claim, free_ports
from paluku.errors import ServiceError

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
