"""Runs in MLflow: created by a job's driver, written to by rank 0, continued by a resumed run."""

import contextlib
import getpass
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

import mlflow
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from paluku.config import Config
from paluku.corpus.shards import Kind, read_manifest
from paluku.corpus.storage import Place
from paluku.errors import PalukuError, ServiceError, one_line
from paluku.log import logger
from paluku.registry.server import check_server, without_passwords

log = logger("registry.tracking")

# What runs are sorted by: a stage's runs stand beside each other, and only these are compared.
EXPERIMENTS = ("corpus", "codec", "speakers", "s2s", "serving")

PARAM_CHARACTERS = 6000  # MLflow's limit for a parameter's value
MOST_METRICS = 1000  # that MLflow takes in one request
SYSTEM_SAMPLE_S = 5.0
S_PER_H = 3600.0

DEVICE_HOURS, COST = "device_hours", "cost"  # metrics
RESTARTS = "restarts"  # a tag


class Data(NamedTuple):
    """What a run reads: shown by MLflow as the run's dataset."""

    name: str
    hash: str
    folder: Path

    @classmethod
    def of_manifest(cls, kind: Kind, folder: str) -> Self:
        """Shards of a kind in a folder or behind a URI.

        Raises:
            CorpusError: when there are none, or others.
        """
        place = Place.of(folder)
        return cls(kind, read_manifest(place, kind).hash, Path(str(place)))


def create_run(
    tracking_uri: str,
    experiment: str,
    config: Config,
    data: Data | None,
    *,
    name: str = "",
    tags: Mapping[str, str] | None = None,
) -> str:
    """A new run with the flattened configuration as its params and the data as its dataset; gives the run id.

    A password in a URI of the configuration is starred.

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
        params=[Param(key, without_passwords(str(value))[:PARAM_CHARACTERS]) for key, value in params],
        tags=[RunTag(key, value) for key, value in all_tags.items()],
    )
    if data is not None:
        source = json.dumps({"uri": str(data.folder)})
        client.log_inputs(run_id, [DatasetInput(Dataset(data.name, data.hash, "local", source), [])])
    client.log_text(run_id, without_passwords(config.to_json()), "config.json")
    return run_id


def reopen_run(tracking_uri: str, run_id: str, config: Config) -> bool:
    """Go on with a run that this server has, under this configuration; whether it has it.

    Raises:
        ServiceError: when the server is not there.
    """
    check_server(tracking_uri)
    client = MlflowClient(tracking_uri)
    try:
        client.update_run(run_id, status="RUNNING")
    except MlflowException:
        return False
    restarts = int(client.get_run(run_id).data.tags.get(RESTARTS, 0))
    client.set_tag(run_id, RESTARTS, str(restarts + 1))
    # Params are what the run began with, for good: what it goes on with stands beside them.
    client.set_tag(run_id, "config_sha256", config.digest())
    client.log_text(run_id, without_passwords(config.to_json()), "config.json")
    return True


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


def tag_run(tracking_uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Add tags to a run. A server that is gone by then is a warning: the work is done."""
    try:
        MlflowClient(tracking_uri).log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])
    except (MlflowException, OSError) as error:
        log.warning("run %s has no tags %s: %s", run_id, ", ".join(tags), one_line(error))


def end_run(tracking_uri: str, run_id: str, *, finished: bool) -> None:
    """Close a run as FINISHED or FAILED. A server that is gone by then is a warning: the work is done."""
    try:
        check_server(tracking_uri)
        MlflowClient(tracking_uri).set_terminated(run_id, "FINISHED" if finished else "FAILED")
    except (ServiceError, MlflowException) as error:
        log.warning("run %s stays open: %s", run_id, one_line(error))


def log_finished(
    tracking_uri: str,
    experiment: str,
    config: Config,
    data: Data | None,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> None:
    """A run of work that is done: its numbers and its files, named as they lie below the first's folder.

    A server that is gone by now, or refuses, is a warning: the results are on the disk.
    """
    where = f"not logged, see {files[0].parent}"
    log_steps(tracking_uri, experiment, config, data, name, tags, [(0, metrics)], files, where)


def log_steps(
    tracking_uri: str,
    experiment: str,
    config: Config,
    data: Data | None,
    name: str,
    tags: Mapping[str, str],
    steps: Iterable[tuple[int, Mapping[str, float]]],
    files: Sequence[Path],
    otherwise: str,
) -> None:
    """`log_finished` with numbers at several steps; `otherwise` is said when it cannot be logged whole."""
    out, run_id = files[0].parent, ""
    try:
        run_id = create_run(tracking_uri, experiment, config, data, name=name, tags=tags)
        reporter = MlflowReporter(tracking_uri, run_id, speaks=True)
        for step, metrics in steps:
            values = list(metrics.items())
            for first in range(0, len(values), MOST_METRICS):
                reporter.metrics(step, dict(values[first : first + MOST_METRICS]))
        for path in files:
            reporter.artifact(path, "/".join(path.parent.relative_to(out).parts))  # "" at the top, no "."
        end_run(tracking_uri, run_id, finished=True)
    except (PalukuError, MlflowException, OSError) as error:  # what `requests` raises is an OSError
        log.warning("%s: %s", otherwise, one_line(error))
        if run_id:
            end_run(tracking_uri, run_id, finished=False)


class Meter:
    """What a run has taken, as metrics: hours of its devices over all its attempts, and their price."""

    def __init__(
        self,
        devices: int,
        price_per_hour: float | None,
        spent_hours: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._devices, self._price = devices, price_per_hour
        self._spent_hours = spent_hours
        self._clock, self._began_s = clock, clock()

    def values(self) -> dict[str, float]:
        """So far: `device_hours`, and `cost` where a price is configured."""
        hours = self._spent_hours + self._devices * (self._clock() - self._began_s) / S_PER_H
        return {DEVICE_HOURS: hours} | ({} if self._price is None else {COST: hours * self._price})


def spent_hours(tracking_uri: str, run_id: str) -> float:
    """The device hours that earlier attempts at a run have logged."""
    # The largest and not the last: an attempt begins at a step that the one before had already passed.
    history = MlflowClient(tracking_uri).get_metric_history(run_id, DEVICE_HOURS)
    return max((metric.value for metric in history), default=0.0)


class MlflowReporter:
    """Implements `training.ports.Reporter` for one worker; only rank 0 speaks.

    With a meter every report says what the run has taken so far.
    """

    def __init__(self, tracking_uri: str, run_id: str, *, speaks: bool, meter: Meter | None = None) -> None:
        self._client = MlflowClient(tracking_uri)
        self._run_id = run_id
        self._speaks = speaks
        self._meter = meter
        self._step = 0

    @property
    def run_id(self) -> str:
        """The MLflow run."""
        return self._run_id

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log step-keyed metrics in one request."""
        self._step = step
        if self._speaks:
            now_ms = round(time.time() * 1000)
            told = {**values, **(self._meter.values() if self._meter else {})}
            self._client.log_batch(
                self._run_id, metrics=[Metric(key, value, now_ms, step) for key, value in told.items()]
            )

    def close(self) -> None:
        """Say once more what the run has taken: saving counts too."""
        if self._meter:
            self.metrics(self._step, {})

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
    """CPU, memory, disk, network and GPU use, sampled into the run while the block lasts.

    A run that goes on continues its curves: MLflow counts on from the last sample. Of GPUs only where package
    `nvidia-ml-py` is installed.
    """
    if not speaks:
        yield
        return
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_system_metrics_sampling_interval(SYSTEM_SAMPLE_S)
    with mlflow.start_run(run_id=run_id, log_system_metrics=True):
        yield


@contextmanager
def tracked_run(
    tracking_uri: str,
    experiment: str,
    config: Config,
    data: Data | None,
    *,
    name: str = "",
    tags: Mapping[str, str] | None = None,
) -> Iterator[MlflowReporter]:
    """A run around a block of work in this process: system metrics meanwhile, FINISHED or FAILED after it.

    Raises:
        ServiceError: when the server is not there, or in the block does not take what it is given.
    """
    run_id = create_run(tracking_uri, experiment, config, data, name=name, tags=tags)
    is_done = False
    try:
        with system_metrics(tracking_uri, run_id, speaks=True):
            yield MlflowReporter(tracking_uri, run_id, speaks=True)
        is_done = True
    except MlflowException as error:
        raise ServiceError(
            f"run {run_id} cannot be written to {tracking_uri} ({one_line(error)}); try again"
        ) from error
    finally:
        end_run(tracking_uri, run_id, finished=is_done)


def create_experiments(tracking_uri: str) -> None:
    """Make the experiments that are not there yet, so that a fresh server shows where things will be."""
    client = MlflowClient(tracking_uri)
    for name in EXPERIMENTS:
        with contextlib.suppress(MlflowException):  # another was faster
            experiment_id(client, name)
