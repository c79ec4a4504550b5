import socket
import subprocess
import sys

import psutil
import pytest

from paluku.cluster.local import LocalRay, end_tree
from paluku.cluster.ports import FIRST, LAST, LOOPBACK, claim, free_ports
from paluku.errors import ServiceError


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
