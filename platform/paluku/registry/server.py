"""A local MLflow server: SQLite for runs, a folder for artifacts, on loopback."""

import contextlib
import http.client
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from paluku.errors import ServiceError

START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 10


class LocalMlflow:
    """`with LocalMlflow(folder, port) as mlflow: ...`; `mlflow.uri` is the tracking and registry URI."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.uri = f"http://127.0.0.1:{port}"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServiceError: when it ends at once or does not answer in time; its last lines are quoted.
        """
        (self.folder / "artifacts").mkdir(parents=True, exist_ok=True)
        log_path = self.folder / "server.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=self._env()
            )
        try:
            self._wait(self._process, log_path)
        except BaseException:  # Ctrl-C too: whoever waits has not entered the block yet
            self.stop()
            raise

    def _wait(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(self.uri):
            if process.poll() is not None or time.monotonic() > deadline:
                last_lines = log_path.read_text(errors="replace")[-600:]
                raise ServiceError(f"MLflow did not start in {self.folder}; its last lines: {last_lines}")
            time.sleep(0.2)

    def _env(self) -> dict[str, str]:
        # No background jobs, no telemetry: two processes fewer on a small machine.
        return os.environ | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)),
            *("--backend-store-uri", f"sqlite:///{self.folder.resolve()}/mlflow.db"),
            *("--artifacts-destination", str((self.folder / "artifacts").resolve())),
            *("--workers", "1"),
        ]

    def stop(self) -> None:
        """End the server and its workers."""
        if self._process is None:
            return
        for sign in (15, 9):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self._process = None


def answers(uri: str) -> bool:
    """Whether an MLflow server at an http(s) URI says it is healthy."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=3) as answer:  # noqa: S310
            return answer.status == 200
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException):
        return False


def check_server(uri: str) -> None:
    """Fail early, before hours of work, when a tracking server is not there.

    Raises:
        ServiceError: when the URI has no scheme, or an http(s) one does not answer. Other URIs (files,
            databases) are not asked.
    """
    if "://" not in uri:
        raise ServiceError(f"tracking_uri {uri!r} has no scheme; write http://HOST:PORT, or sqlite:///FILE")
    if uri.startswith(("http://", "https://")) and not answers(uri):
        raise ServiceError(
            f"no MLflow server answers at {uri}; start one (`make serve`) or set tracking_uri to another"
        )
