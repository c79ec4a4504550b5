"""Runs in MLflow: created by a job's driver, written to by rank 0, continued by a resumed run."""

import getpass
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import mlflow
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from paluku.config import Config
from paluku.errors import ServiceError, one_line
from paluku.log import logger
from paluku.registry.server import check_server

log = logger("registry.tracking")

PARAM_CHARACTERS = 6000  # MLflow's limit for a parameter's value


class Data(NamedTuple):
    """What a run reads: shown by MLflow as the run's dataset."""

    name: str
    hash: str
    folder: Path


def create_run(
    tracking_uri: str,
    experiment: str,
    config: Config,
    data: Data,
    *,
    name: str = "",
    tags: Mapping[str, str] | None = None,
) -> str:
    """A new run with the flattened configuration as its params; gives the run id.

    Raises:
        ServiceError: when the server is not there.
    """
    check_server(tracking_uri)
    client = MlflowClient(tracking_uri)
    run_name = name or f"{experiment} {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
    run_id = client.create_run(experiment_id(client, experiment), run_name=run_name).info.run_id
    params = _flat(config.model_dump(mode="json"))
    all_tags = {"config_sha256": config.digest(), "mlflow.user": getpass.getuser(), **(tags or {})}
    client.log_batch(
        run_id,
        params=[Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in params],
        tags=[RunTag(key, value) for key, value in all_tags.items()],
    )
    source = json.dumps({"uri": str(data.folder)})
    client.log_inputs(run_id, [DatasetInput(Dataset(data.name, data.hash, "local", source), [])])
    client.log_text(run_id, config.to_json(), "config.json")
    return run_id


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of this name, which is created when there is none."""
    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    # MLflow's own mark for experiments that train models of one's own, not prompts.
    return client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def end_run(tracking_uri: str, run_id: str, *, finished: bool) -> None:
    """Close a run as FINISHED or FAILED. A server that is gone by then is a warning: the work is done."""
    try:
        check_server(tracking_uri)
        MlflowClient(tracking_uri).set_terminated(run_id, "FINISHED" if finished else "FAILED")
    except (ServiceError, MlflowException) as error:
        log.warning("run %s stays open: %s", run_id, one_line(error))


class MlflowReporter:
    """Implements `training.ports.Reporter` for one worker; only rank 0 speaks."""

    def __init__(self, tracking_uri: str, run_id: str, *, speaks: bool) -> None:
        self._client = MlflowClient(tracking_uri)
        self._run_id = run_id
        self._speaks = speaks

    @property
    def run_id(self) -> str:
        """The MLflow run."""
        return self._run_id

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log step-keyed metrics in one request."""
        if self._speaks:
            now_ms = round(time.time() * 1000)
            self._client.log_batch(
                self._run_id, metrics=[Metric(key, value, now_ms, step) for key, value in values.items()]
            )

    def artifact(self, path: Path, folder: str) -> None:
        """Upload one file."""
        if self._speaks:
            self._client.log_artifact(self._run_id, str(path), folder)

    def checkpoint(self, folder: Path | None, step: int) -> None:  # noqa: ARG002 (the folder's name says it)
        """Upload the checkpoint's files, so that the run holds what it made."""
        if self._speaks and folder is not None:
            for path in sorted(folder.iterdir()):
                if path.name != "training.pt":  # optimiser state is for going on, and storage keeps it
                    self._client.log_artifact(self._run_id, str(path), f"checkpoints/{folder.name}")


@contextmanager
def system_metrics(tracking_uri: str, run_id: str, *, speaks: bool) -> Iterator[None]:
    """CPU, memory, disk and GPU use, sampled into the run while the block lasts."""
    if not speaks:
        yield
        return
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_system_metrics_sampling_interval(5)
    with mlflow.start_run(run_id=run_id, log_system_metrics=True):
        yield
