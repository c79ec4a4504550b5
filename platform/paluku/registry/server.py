"""An MLflow server of this machine: SQLite for runs and a folder for artifacts, or a database and a store."""

import contextlib
import http.client
import importlib.util
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from paluku.errors import ServiceError

# A busy machine takes its time; a server that has ended is not waited for.
START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 10
# What a URI of this scheme needs beside MLflow: module and package.
DRIVERS = {"postgresql": ("psycopg2", "psycopg2-binary"), "s3": ("boto3", "boto3")}


class LocalMlflow:
    """`with LocalMlflow(folder, port) as mlflow: ...`; `mlflow.uri` is the tracking and registry URI.

    `backend_uri` is a database (`postgresql://USER:PASSWORD@HOST/NAME`), else SQLite in the folder;
    `artifacts_uri` a store (`s3://BUCKET/FOLDER`; `MLFLOW_S3_ENDPOINT_URL` and AWS's own variables say where
    and as whom), else the folder. Clients need none of it: files go through the server.
    """

    def __init__(self, folder: Path, port: int, backend_uri: str = "", artifacts_uri: str = "") -> None:
        self.folder = folder
        self.uri = f"http://127.0.0.1:{port}"
        self._port = port
        self._artifacts_uri = artifacts_uri
        # SQLAlchemy's own choice of a driver differs from version to version.
        self._backend_uri = backend_uri.replace("postgresql://", "postgresql+psycopg2://", 1)
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
            ServiceError: when a driver is missing, it ends at once or does not answer in time; its last lines
                are quoted.
        """
        for uri in (self._backend_uri, self._artifacts_uri):
            _check_driver(uri)
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
                # Cut after it, or half of one could be left without what it is known by.
                last_lines = without_passwords(log_path.read_text(errors="replace"))[-600:]
                raise ServiceError(f"MLflow did not start in {self.folder}; its last lines: {last_lines}")
            time.sleep(0.2)

    def _env(self) -> dict[str, str]:
        # No background jobs, no telemetry: two processes fewer on a small machine.
        # What may hold a password stays off the command line, which everyone can read.
        return os.environ | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_BACKEND_STORE_URI": self._backend_uri or f"sqlite:///{self.folder.resolve()}/mlflow.db",
            "MLFLOW_ARTIFACTS_DESTINATION": self._artifacts_uri or str((self.folder / "artifacts").resolve()),
        }

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)),
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


def _check_driver(uri: str) -> None:
    scheme = uri.partition(":")[0].removesuffix("+psycopg2")
    module, package = DRIVERS.get(scheme, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise ServiceError(f"{scheme}:// needs the package {package}; pip install {package}")


def without_passwords(text: str) -> str:
    """The text, the passwords of its URIs starred; SQLAlchemy takes ones with a slash too."""
    return re.sub(r"(://[^:/@\s]*):[^@\s\"]*@", r"\1:***@", text)


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
            f"no MLflow server answers at {uri}; start one (`make mlflow`) or set tracking_uri to another"
        )
