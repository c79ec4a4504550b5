"""Faults on purpose, on a cluster of this machine: which process is which replica, and its end.

Serve's REST answer names the replicas and their process ids; nothing is guessed from process titles.
"""

import http.client
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import psutil

from paluku.errors import ServiceError

Kind = Literal["encode", "converse", "decode", "speech", "ingress", "memory"]
MB = 1e6


class Usage(NamedTuple):
    """What a process holds."""

    rss_mb: float
    fds: int


class ServeReplicas:
    """The replicas of one application, as Serve's controller sees them."""

    def __init__(self, dashboard_url: str, token: str, application: str) -> None:
        self._url = f"{dashboard_url}/api/serve/applications/"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._application = application

    def pids(self) -> dict[str, list[int]]:
        """Process ids of the replicas that run and still live, by deployment, the oldest first.

        Raises:
            ServiceError: when the dashboard does not answer, or knows no such application.
        """
        return {
            name: [
                replica["pid"]
                for replica in sorted(deployment["replicas"], key=lambda found: found["start_time_s"])
                if replica["state"] == "RUNNING" and _lives(replica["pid"])
            ]
            for name, deployment in self._deployments().items()
        }

    def are_settled(self) -> bool:
        """Whether every deployment has exactly the replicas it should have, and they run.

        Raises:
            ServiceError: as `pids`.
        """
        pids = self.pids()
        return all(
            deployment["status"] == "HEALTHY"
            and len(pids[name]) == deployment["target_num_replicas"] == len(deployment["replicas"])
            for name, deployment in self._deployments().items()
        )

    def wait_settled(self, timeout_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """Return once they are settled.

        Raises:
            ServiceError: when they are not in time; it names what there is.
        """
        deadline_s = now() + timeout_s
        while not self.are_settled():
            if now() > deadline_s:
                raise ServiceError(f"the replicas did not settle within {timeout_s:g} s: {self.pids()}")
            time.sleep(0.2)

    def usage(self) -> dict[str, dict[int, Usage]]:
        """What each running replica holds, by deployment and process id."""
        return {name: {pid: usage(pid) for pid in pids} for name, pids in self.pids().items()}

    def apply(self, config: Mapping[str, Any]) -> None:
        """Make Serve pursue a configuration, as `serve deploy` does; it returns before that is reached.

        Raises:
            ServiceError: when Serve refuses it.
        """
        body = json.dumps(config).encode()
        headers = {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers, method="PUT")  # noqa: S310 (as below)
        try:
            urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise ServiceError(f"Serve refuses the configuration ({error}); see its log") from error

    def _deployments(self) -> Mapping[str, Any]:
        request = urllib.request.Request(self._url, headers=self._headers)  # noqa: S310 (a dashboard's http)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                applications = json.load(answer)["applications"]
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise ServiceError(f"Serve does not answer at {self._url} ({error}); is it running?") from error
        if self._application not in applications:
            raise ServiceError(f"Serve runs no application {self._application!r}; deploy it first")
        return applications[self._application]["deployments"]


def kill(pid: int) -> None:
    """SIGKILL, as a machine that goes away: nothing is said, nothing is cleaned up."""
    psutil.Process(pid).send_signal(signal.SIGKILL)


def usage(pid: int) -> Usage:
    """Resident memory and open file descriptors of a process of this machine."""
    process = psutil.Process(pid)
    with process.oneshot():
        return Usage(process.memory_info().rss / MB, process.num_fds())


def deployment_of(kind: Kind) -> str:
    """The deployment whose replicas are of a kind."""
    return kind.capitalize()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
