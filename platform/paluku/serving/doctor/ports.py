"""Are the ports free that the servers want, and who has them?"""

import socket
from collections.abc import Callable, Mapping

import psutil

from paluku.serving.doctor.finding import Finding, warning, well

WANTED = {
    8000: "the Serve endpoint (make serve; jobs.serve --port)",
    5000: "MLflow (make serve; jobs.serve --mlflow-port)",
    8265: "Ray's dashboard (ray start --dashboard-port)",
}
SOMEBODY = "a process of another user, or of a container"


def check(
    wanted: Mapping[int, str] = WANTED, holder: Callable[[int], str | None] | None = None
) -> list[Finding]:
    """A port that is taken is no fault when it is taken by the server that wants it."""
    return [_port(port, use, (holder or holder_of)(port)) for port, use in wanted.items()]


def _port(port: int, use: str, holder: str | None) -> Finding:
    if holder is None:
        return well(f"port {port}", "free")
    return warning(
        f"port {port}", f"taken by {holder}", f"fine if that is {use}; else end it or use another port"
    )


def holder_of(port: int) -> str | None:
    """Who listens on a port of loopback: a program and its process id, as far as we may see; None: nobody."""
    if not _answers(port):
        return None
    for process in psutil.process_iter(["pid", "name"]):
        try:
            listening = process.net_connections("tcp")
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in listening):
            return f"{process.info['name']} (process {process.info['pid']})"
    return SOMEBODY


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
