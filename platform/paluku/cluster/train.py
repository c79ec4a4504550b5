"""A training loop under Ray Train: DDP workers, checkpoints in shared storage, one MLflow run.

The loops themselves (`paluku.training`) know nothing of Ray; here each worker gets a reporter that
speaks to MLflow and Ray at once, and the checkpoint to resume from after a crash.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import ray.train
from pydantic import Field
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from paluku.cluster.unwrap import user_errors
from paluku.config import AbsolutePath, Config
from paluku.errors import StorageError
from paluku.log import to_stderr
from paluku.registry.artefact import appearing_whole, read_card
from paluku.registry.tracking import (
    Data,
    Meter,
    MlflowReporter,
    create_run,
    end_run,
    reopen_run,
    spent_hours,
    system_metrics,
    tag_run,
)
from paluku.training.console import ConsoleReporter
from paluku.training.ports import Reporter
from paluku.training.world import World, current_world


class Placement(Config):
    """Where and how widely a loop runs; what is trained stands in the loop's own configuration."""

    storage: AbsolutePath  # a folder that every node reaches
    tracking_uri: str
    experiment: str
    name: str = ""  # naming an earlier run resumes it from its last checkpoint
    workers: int = Field(default=2, ge=1)
    cpus_per_worker: float = Field(default=1, gt=0)
    use_gpu: bool = False
    max_failures: int = Field(default=2, ge=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    # What one worker's device (its GPU, or its share of a machine) costs an hour; None: runs name no cost.
    price_per_hour: float | None = Field(default=None, ge=0)
    price_currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")


Loop = Callable[[Any, Reporter, Path | None], Path]


class WorkerSettings(NamedTuple):
    """What travels to each worker."""

    loop: Loop
    config: Config
    tracking_uri: str
    run_id: str
    resume: Path | None  # where Ray knows no checkpoint of this run
    devices: int
    price_per_hour: float | None


class Trained(NamedTuple):
    """What a finished job leaves."""

    folder: Path
    run_id: str
    hash: str


def train(
    loop: Loop,
    config: Config,
    out: Path,
    placement: Placement,
    data: Data,
    tags: Mapping[str, str] | None = None,
    resume: Path | None = None,
) -> Trained:
    """Run a loop on the cluster; the last checkpoint is copied to `out/final`.

    `resume` is a checkpoint that another run left, in a folder every node reaches; one that Ray has of a run
    of this name is newer.

    Raises:
        PalukuError: what the loop raised, unwrapped from Ray's own exceptions.
        ServiceError: when the tracking server is not there.
        StorageError: when the run left no checkpoint, or `out` cannot be written.
    """
    name, run_id = _named_run(config, placement, data, tags, resume)
    settings = WorkerSettings(
        loop,
        config,
        placement.tracking_uri,
        run_id,
        resume,
        devices=placement.workers,
        price_per_hour=placement.price_per_hour,
    )
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"settings": settings},
        scaling_config=ScalingConfig(
            num_workers=placement.workers,
            use_gpu=placement.use_gpu,
            resources_per_worker={"CPU": placement.cpus_per_worker}
            | ({"GPU": 1} if placement.use_gpu else {}),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(placement.storage),
            failure_config=FailureConfig(max_failures=placement.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=placement.keep_checkpoints),
            logging_config=LoggingConfig(
                log_level="WARNING"
            ),  # the controller's; workers still name each report
        ),
    )
    try:
        with user_errors():
            result = trainer.fit()
    except BaseException:
        end_run(placement.tracking_uri, run_id, finished=False)
        raise
    end_run(placement.tracking_uri, run_id, finished=True)
    if result.checkpoint is None:
        raise StorageError(
            f"run {name} ended without a checkpoint in {placement.storage}; lower checkpoint_every"
        )
    final = out / "final"
    with appearing_whole(final) as partial:
        result.checkpoint.to_directory(str(partial))
    card = read_card(final)
    parents = {f"{part}_hash": digest for part, digest in card.parents.items()}
    tag_run(placement.tracking_uri, run_id, {"model_hash": card.hash, **parents})
    return Trained(final, run_id, card.hash)


def _named_run(
    config: Config,
    placement: Placement,
    data: Data,
    tags: Mapping[str, str] | None,
    resume: Path | None,
) -> tuple[str, str]:
    """Ray's name and MLflow's id: of a new run, or of the one that an earlier attempt began.

    That is one of this name, or the one that left `resume`, where the server has it: curves go on.
    """
    known = {} if placement.price_per_hour is None else _price(placement)
    all_tags = {**(tags or {}), **known}

    def goes_on(left: str) -> bool:
        return bool(left) and reopen_run(placement.tracking_uri, left, config)

    def begin(name: str) -> str:
        return create_run(
            placement.tracking_uri, placement.experiment, config, data, name=name, tags=all_tags
        )

    if not placement.name:
        left = "" if resume is None else read_card(resume).run_id
        run_id = left if goes_on(left) else begin("")
        return f"{placement.experiment}-{run_id[:8]}", run_id
    note = placement.storage / f"{placement.name}.mlflow_run"
    left = note.read_text().strip() if note.is_file() else ""
    run_id = left if goes_on(left) else begin(placement.name)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(run_id)
    return placement.name, run_id


def _price(placement: Placement) -> dict[str, str]:
    return {"price_per_hour": f"{placement.price_per_hour:g}", "price_currency": placement.price_currency}


def _worker(train_loop_config: dict[str, WorkerSettings]) -> None:
    settings = train_loop_config["settings"]
    world = current_world()
    speaks = world.is_main
    if speaks:
        to_stderr()
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    meter = None
    if speaks:
        spent = spent_hours(settings.tracking_uri, settings.run_id)
        meter = Meter(settings.devices, settings.price_per_hour, spent)
    mlflow = MlflowReporter(settings.tracking_uri, settings.run_id, speaks=speaks, meter=meter)
    with ExitStack() as stack:
        checkpoint = ray.train.get_checkpoint()
        resume = Path(stack.enter_context(checkpoint.as_directory())) if checkpoint else settings.resume
        stack.enter_context(system_metrics(settings.tracking_uri, settings.run_id, speaks=speaks))
        settings.loop(settings.config, RayReporter(mlflow, world), resume)
        mlflow.close()


class RayReporter:
    """Implements `training.ports.Reporter`: metrics and files to MLflow, checkpoints to Ray as well."""

    def __init__(self, mlflow: MlflowReporter, world: World) -> None:
        self._mlflow = mlflow
        self._console = ConsoleReporter(world)

    @property
    def run_id(self) -> str:
        """The MLflow run."""
        return self._mlflow.run_id

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """To MLflow and the log only: Ray's report is a barrier of all workers, too dear for every step."""
        self._mlflow.metrics(step, values)
        self._console.metrics(step, values)

    def artifact(self, path: Path, folder: str) -> None:
        """To MLflow."""
        self._mlflow.artifact(path, folder)

    def checkpoint(self, folder: Path | None, step: int) -> None:
        """To Ray (what a restarted worker resumes from) and to MLflow. A barrier of all workers."""
        ray.train.report(
            {"step": step}, checkpoint=Checkpoint.from_directory(str(folder)) if folder else None
        )
        self._mlflow.checkpoint(folder, step)
