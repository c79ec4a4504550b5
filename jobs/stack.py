"""What `make demo` and `make serve` stand on: a local Ray cluster, an MLflow server, one home folder."""

import fcntl
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import yaml

from jobs.submit import ROOT, submit
from paluku.cluster.local import LocalRay
from paluku.cluster.ports import LOOPBACK, claim, free_ports
from paluku.errors import ServiceError
from paluku.registry.bundle import verify_bundle
from paluku.registry.server import LocalMlflow
from paluku.registry.store import fetch
from paluku.serving.deploy import deploy


class Stack(ExitStack):
    """`with Stack(home) as stack: ...`; all it starts ends with the block.

    Raises:
        ServiceError: when a wanted port is taken, or a server does not start.
    """

    def __init__(self, home: Path, serve_port: int | None = None, mlflow_port: int | None = None) -> None:
        super().__init__()
        self.home = home
        # Probes of our own servers must not go through a proxy; children inherit this.
        for name in ("no_proxy", "NO_PROXY"):
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK, "localhost")))
        self.serve_port = claim(serve_port, "the Serve endpoint", "pass --port") if serve_port else None
        mlflow_port = claim(mlflow_port, "MLflow", "pass --mlflow-port") if mlflow_port else free_ports(1)[0]
        self.mlflow = LocalMlflow(home / "mlflow", mlflow_port)

    def __enter__(self) -> Self:
        super().__enter__()
        # Else SIGTERM would leave the servers behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._lock()
            self.enter_context(self.mlflow)
            self.ray = self.enter_context(LocalRay(serve_port=self.serve_port))
        except BaseException:
            self.close()
            raise
        return self

    def _lock(self) -> None:
        """Two at once would write over each other's models."""
        file = self.enter_context((self.home / "lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServiceError(f"another demo or server is at work in {self.home}; stop it first") from error

    @property
    def url(self) -> str:
        """Where HAProxy answers once the application is deployed."""
        return f"http://{LOOPBACK}:{self.ray.serve_port}"

    @property
    def websocket_url(self) -> str:
        """Where a client speaks."""
        return f"ws://{LOOPBACK}:{self.ray.serve_port}/ws"

    def job(self, name: str, *arguments: str) -> None:
        """`ray job submit` one of `jobs/`, and wait for its end.

        Raises:
            ServiceError: when it fails; what went wrong stands in the job's own lines above.
        """
        if code := submit(name, list(arguments), self.ray.env):
            raise ServiceError(f"job {name} ended with exit code {code}; its own lines above say why")

    def train_placement(self) -> list[str]:
        """Overrides that place a training job on this stack."""
        return [f"placement.storage={self.home / 'train'}", f"placement.tracking_uri={self.mlflow.uri}"]

    def deploy(self, bundle: str) -> None:
        """`serve deploy` the speech application for one machine, and wait until it answers.

        Called again with another bundle, that one is loaded beside the first and live sessions move over.

        Raises:
            CheckpointError: when the bundle is missing or damaged.
            ServiceError: when the deployment fails or does not come up in time.
        """
        verify_bundle(fetch(bundle, self.mlflow.uri, self.home / "models"))  # a replica would only hide why
        config = yaml.safe_load((ROOT / "serve_apps" / "speech.local.yaml").read_text(encoding="utf-8"))
        config["http_options"]["port"] = self.ray.serve_port
        (application,) = config["applications"]
        application["args"] |= {"tracking_uri": self.mlflow.uri, "cache": str(self.home / "models")}
        for deployment in application["deployments"]:
            if "user_config" in deployment:
                deployment["user_config"] = {"bundle": bundle}
        application["runtime_env"] = {"working_dir": f"local://{ROOT}"}
        path = self.home / "speech.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        try:
            deploy(path, application["name"], self.ray.dashboard_url, self.url, self.ray.env)
        except ServiceError as error:
            raise ServiceError(f"{error}; see {self._keep_logs()}") from error

    def _keep_logs(self) -> Path:
        """Ray's logs go with its folder; these stay."""
        kept = self.home / "logs"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.ray.folder / "session_latest" / "logs", kept, ignore_dangling_symlinks=True)
        return kept


def recordings() -> Path | None:
    """Real speech to learn from: `PALUKU_SPEECH`, else `../shared/speech` beside the repository.

    Raises:
        ServiceError: when `PALUKU_SPEECH` names no folder.
    """
    if named := os.environ.get("PALUKU_SPEECH"):
        if not Path(named).is_dir():
            raise ServiceError(f"PALUKU_SPEECH={named} is no folder; unset it or name a folder of recordings")
        return Path(named).resolve()
    beside = ROOT.parent / "shared" / "speech"
    return beside if beside.is_dir() else None
