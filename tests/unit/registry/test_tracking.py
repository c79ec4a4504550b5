"""What runs hold beside their curves, on a real MLflow server: cost, machine, restarts, results."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import mlflow.artifacts
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from paluku.config import Config
from paluku.corpus.shards import Manifest, ShardInfo
from paluku.errors import EvaluationError
from paluku.registry import tracking
from paluku.registry.results import corpus_numbers, flat_numbers, log_corpus, log_serving
from paluku.registry.server import LocalMlflow
from paluku.registry.tracking import (
    EXPERIMENTS,
    Data,
    Meter,
    MlflowReporter,
    create_experiments,
    create_run,
    end_run,
    reopen_run,
    spent_hours,
    system_metrics,
    tracked_run,
)

DATA = Data("utterances", "123", Path("/data/utterances"))
PATIENCE_S = 60


class Recipe(Config):
    steps: int = 3


class Hours:
    """A clock in seconds that is set in hours."""

    def __init__(self) -> None:
        self.hours = 0.0

    def __call__(self) -> float:
        return 3600 * self.hours


def test_a_meter_counts_devices_and_what_earlier_attempts_took() -> None:
    clock = Hours()
    meter, free = Meter(4, 2.5, 10.0, clock), Meter(4, None, 0.0, clock)
    clock.hours = 0.5
    assert meter.values() == {"device_hours": 12.0, "cost": 30.0}
    assert free.values() == {"device_hours": 2.0}


@pytest.mark.ray
def test_a_run_that_goes_on_continues_its_curves_and_its_cost(local_mlflow: LocalMlflow) -> None:
    uri, clock = local_mlflow.uri, Hours()
    run_id = create_run(uri, "codec", Recipe(), DATA)
    for attempt, steps in enumerate(((1, 2), (2, 3))):  # step 2 came after the last checkpoint
        if attempt:
            assert reopen_run(uri, run_id, Recipe())
        spent = spent_hours(uri, run_id)
        reporter = MlflowReporter(uri, run_id, speaks=True, meter=Meter(2, 3.0, spent, clock))
        for step in steps:
            clock.hours += 1
            reporter.metrics(step, {"loss": 1 / step})
        reporter.close()
        end_run(uri, run_id, finished=bool(attempt))
    client = MlflowClient(uri)
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == [1, 2, 2, 3]
    cost = client.get_metric_history(run_id, "cost")
    assert [m.value for m in cost] == [6.0, 12.0, 12.0, 18.0, 24.0, 24.0]
    run = client.get_run(run_id)
    assert run.data.metrics["device_hours"] == 8.0
    assert (run.data.tags["restarts"], run.info.status) == ("1", "FINISHED")
    assert not reopen_run(uri, "0" * 32, Recipe())


@pytest.mark.ray
def test_the_machine_is_sampled_and_a_second_attempt_counts_on(
    local_mlflow: LocalMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SYSTEM_SAMPLE_S", 0.2)
    uri, client = local_mlflow.uri, MlflowClient(local_mlflow.uri)
    run_id = create_run(uri, "codec", Recipe(), DATA)
    counts = []
    for _ in range(2):
        before = len(counts and client.get_metric_history(run_id, "system/cpu_utilization_percentage"))
        with system_metrics(uri, run_id, speaks=True):
            until(
                lambda least=before: (
                    len(client.get_metric_history(run_id, "system/cpu_utilization_percentage")) > least
                )
            )
        counts.append(
            [m.step for m in client.get_metric_history(run_id, "system/cpu_utilization_percentage")]
        )
    assert counts[1][: len(counts[0])] == counts[0]
    assert counts[1] == sorted(set(counts[1]))
    assert "system/system_memory_usage_megabytes" in client.get_run(run_id).data.metrics
    with system_metrics(uri, "no run at all", speaks=False):
        pass


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)


@pytest.mark.ray
def test_a_block_that_fails_leaves_a_failed_run(local_mlflow: LocalMlflow) -> None:
    client = MlflowClient(local_mlflow.uri)
    with (
        pytest.raises(EvaluationError),
        tracked_run(local_mlflow.uri, "s2s", Recipe(), None, name="broken") as run,
    ):
        raise EvaluationError("nothing to judge")
    assert client.get_run(run.run_id).info.status == "FAILED"
    assert not client.get_run(run.run_id).inputs.dataset_inputs


@pytest.mark.ray
def test_every_experiment_is_there(local_mlflow: LocalMlflow) -> None:
    for _ in range(2):  # a second time changes nothing
        create_experiments(local_mlflow.uri)
    client = MlflowClient(local_mlflow.uri)
    assert set(EXPERIMENTS) == {"corpus", "codec", "speakers", "s2s", "serving"}
    assert set(EXPERIMENTS) <= {each.name for each in client.search_experiments()}


@pytest.mark.ray
def test_a_sweep_is_a_curve_over_its_sessions(local_mlflow: LocalMlflow) -> None:
    lines = [
        {"topology": "graph", "sessions": n, "reaction_ms": {"mean": 90.0 + n, "p99": None}, "is_held": n < 8}
        for n in (4, 8)
    ]
    asked = {"seconds": 60.0, "bundle": Path("/bundle"), "json": None}
    log_serving(local_mlflow.uri, "bench_serve", asked, lines, step_key="sessions")
    client = MlflowClient(local_mlflow.uri)
    run = only(client, "serving", "bench_serve")
    history = client.get_metric_history(run.info.run_id, "reaction_ms.mean")
    assert [(m.step, m.value) for m in history] == [(4, 94.0), (8, 98.0)]
    assert [m.value for m in client.get_metric_history(run.info.run_id, "is_held")] == [1.0, 0.0]
    assert run.data.params == {"seconds": "60.0", "bundle": "/bundle", "json": "None"}
    uri = f"{run.info.artifact_uri}/results.json"
    assert json.loads(mlflow.artifacts.load_text(uri)) == lines


@pytest.mark.ray
def test_a_corpus_is_logged_with_hours_rejects_and_licences(local_mlflow: LocalMlflow) -> None:
    shards = tuple(
        ShardInfo(path=f"{split}.parquet", rows=rows, num_bytes=100, sha256="0" * 64, split=split)
        for split, rows in (("train", 5), ("test", 2))
    )
    manifest = Manifest(
        kind="utterances",
        config_sha256="0" * 64,
        parents={"codec": "abc"},
        shards=shards,
        hours={"train": 1.5, "test": 0.5},
        breakdown={"language": {"te": 2.0}},
        licences={"slr66": "CC BY-SA 4.0"},
        rejects={"too short": 3, "clipped": 1},
        counts={"without text": 2},
    )
    assert corpus_numbers(manifest) == {
        "rows": 7, "shards": 2, "num_bytes": 200, "hours": 2.0, "rejects": 4, "rows/train": 5, "rows/test": 2,
        "hours/train": 1.5, "hours/test": 0.5, "hours/language/te": 2.0, "rejects/too short": 3,
        "rejects/clipped": 1, "counts/without text": 2,
    }  # fmt: skip
    log_corpus(local_mlflow.uri, Recipe(), manifest, Path("/corpus"))
    client = MlflowClient(local_mlflow.uri)
    run = only(client, "corpus", f"utterances {manifest.hash}")
    assert run.data.metrics == corpus_numbers(manifest)
    tags = {"codec_hash": "abc", "data_hash": manifest.hash, "licence/slr66": "CC BY-SA 4.0"}
    assert tags.items() <= run.data.tags.items()
    assert run.inputs.dataset_inputs[0].dataset.digest == manifest.hash


def only(client: MlflowClient, experiment: str, name: str) -> Run:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id], f"attributes.run_name = '{name}'")
    assert run.info.status == "FINISHED"
    return run


def test_a_server_that_is_gone_costs_no_result(caplog: pytest.LogCaptureFixture) -> None:
    log_serving("http://127.0.0.1:9", "soak", {}, [{"late_share": 0.0}])
    assert "soak is not logged: no MLflow server answers" in caplog.text


def test_numbers_are_named_by_their_path() -> None:
    found = flat_numbers({"a": {"b": 1, "c d": {"é": 2.5}}, "list": [1], "word": "x", "nan": float("nan")})
    assert dict(found) == {"a.b": 1.0, "a.c d._": 2.5}
