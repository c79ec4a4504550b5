"""Two nodes on one machine, each in a network namespace of its own, made nodes by deploy/setup_node.sh.

    test process ──(veth)── head ──(veth)── worker

What listens in the head's namespace is reached at `address`; the worker is reached from the head alone.
"""

import atexit
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "paluku-test"
START_TIMEOUT_S = 300
OBJECT_STORE_BYTES = 100_000_000


def why_not() -> str:
    """Why namespaces cannot be made here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need `ip` (Debian: iproute2)"
    tried = subprocess.run(["ip", "netns", "add", name := f"{PREFIX}-try-{os.getpid()}"], capture_output=True)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


def sweep() -> None:
    """Remove what a test process left that was killed before it could clean up."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    for name in (line.split()[0] for line in listed.splitlines()):
        owner = name.removeprefix(f"{PREFIX}-").split("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            Node(name).remove()


class Node:
    """A namespace, and the processes in it."""

    def __init__(self, name: str, address: str = "", folder: Path = Path()) -> None:
        self.name = name
        self.address = address
        self.folder = folder

    def add(self, head_address: str) -> None:
        self.folder.mkdir()
        # `ip netns exec` lays these files over /etc: the machine's own hosts file is not touched. The second
        # line is Debian's habit, and no address for others.
        etc = Path("/etc/netns") / self.name
        etc.mkdir(parents=True)
        lines = ("127.0.0.1 localhost", f"127.0.1.1 {socket.gethostname()}", f"{head_address} mlflow", "")
        (etc / "hosts").write_text("\n".join(lines))
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")

    def remove(self) -> None:
        self.kill_all()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        shutil.rmtree(Path("/etc/netns") / self.name, ignore_errors=True)

    def pids(self) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(pid) for pid in done.stdout.split()]

    def kill_all(self) -> None:
        """What a lost machine is to the others: every process ends at once."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            time.sleep(0.02)

    def titles(self) -> list[str]:
        """The command lines in this namespace."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]


class TwoNodes:
    """`with TwoNodes() as nodes: ...`; nothing stays, whatever happens inside the block."""

    def __init__(self) -> None:
        # Paths of Ray's and HAProxy's sockets are limited to about 100 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="pk-", dir="/tmp"))
        number = os.getpid() % 250
        self.address = f"10.213.{number}.5"  # the head's, for this process
        self._own_address = f"10.213.{number}.6"
        prefix = f"{PREFIX}-{os.getpid()}"
        self.head = Node(f"{prefix}-head", f"10.213.{number}.1", self.folder / "head")
        self.worker = Node(f"{prefix}-worker", f"10.213.{number}.2", self.folder / "worker")
        self.data = self.folder / "data"
        self._token = secrets.token_hex(32)

    @property
    def dashboard_url(self) -> str:
        return f"http://{self.address}:8265"

    @property
    def url(self) -> str:
        """Where HAProxy answers on the head."""
        return f"http://{self.address}:8000"

    @property
    def mlflow_uri(self) -> str:
        """As every node knows it."""
        return "http://mlflow:5000"

    def __enter__(self) -> Self:
        # A time-out inside pytest itself ends without any fixture's teardown.
        atexit.register(self.close)
        try:
            self.connect()
            self.start_head()
            self.start_worker()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything and remove it; may be repeated."""
        atexit.unregister(self.close)
        for node in (self.worker, self.head):
            node.remove()  # a veth goes with either of its ends
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self) -> None:
        """Namespaces and cables, no process yet."""
        sweep()
        head, worker, number = self.head, self.worker, os.getpid() % 10_000
        for node in (head, worker):
            node.add(head.address)
        veth(f"pkw{number}", worker.name, worker.address, f"pkh{number}", head.name, head.address)
        veth(f"pkr{number}", None, self._own_address, f"pkx{number}", head.name, self.address)

    def env(self, node: Node) -> dict[str, str]:
        """What setup_node.sh and the programs beside it need on a node."""
        return os.environ | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "PALUKU_VENV": str(Path(sys.executable).parents[1]),
            "PALUKU_DATA": str(self.data),
            "PALUKU_ADDRESS": self.head.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_ADDRESS": f"{self.head.address}:6379",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # else every train.report takes 2 s
            # One machine has one /tmp; two have two.
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(node.folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(node.folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(node.folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(node.folder / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(node.folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        }

    def start_head(self) -> None:
        # After the script's own options: here the dashboard is asked from outside the namespace.
        self._setup(self.head, "head", "--dashboard-host=0.0.0.0", f"--temp-dir={self.folder / 'ray'}")

    def start_worker(self) -> None:
        """A node joins, also in the place of one that was lost."""
        self._setup(self.worker, "worker", self.head.address)

    def _setup(self, node: Node, *words: str) -> None:
        options = (f"--node-ip-address={node.address}", "--num-cpus=1", "--disable-usage-stats")
        store = f"--object-store-memory={OBJECT_STORE_BYTES}"
        with (node.folder / "setup.log").open("ab") as log:  # a file: daemons would keep a pipe open
            done = subprocess.run(
                node.command(str(ROOT / "deploy" / "setup_node.sh"), *words, *options, store),
                env=self.env(node),
                stdout=log,
                stderr=log,
                timeout=START_TIMEOUT_S,
                check=False,
            )
        assert done.returncode == 0, (node.folder / "setup.log").read_text(errors="replace")[-3000:]


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def veth(near: str, near_in: str | None, near_ip: str, far: str, far_in: str, far_ip: str) -> None:
    """A cable of two ends, each in a namespace; `None` is the one we are in."""
    ip("link", "add", near, "type", "veth", "peer", "name", far)
    for link, inside, address in ((near, near_in, near_ip), (far, far_in, far_ip)):
        if inside is not None:
            ip("link", "set", link, "netns", inside)
        there = ("-n", inside) if inside else ()
        ip(*there, "addr", "add", f"{address}/30", "dev", link)
        ip(*there, "link", "set", link, "up")
