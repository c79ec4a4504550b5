import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient

from paluku.config import Config
from paluku.errors import CheckpointError, ServiceError
from paluku.registry.server import LocalMlflow, check_server
from paluku.registry.store import fetch, register, version_at
from paluku.registry.tracking import Data, MlflowReporter, create_run, end_run
from tests.fakes.bundle import tiny_bundle

DATA = Data("utterances", "123", Path("/data/utterances"))


class Inner(Config):
    width: int = 2


class Recipe(Config):
    steps: int = 3
    inner: Inner = Inner()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


def test_a_server_that_is_gone_is_said_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ServiceError, match=rf"no MLflow server answers at http://127.0.0.1:{port}"):
        check_server(f"http://127.0.0.1:{port}")


def test_a_malformed_registry_uri_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither models:/NAME@ALIAS"):
        fetch("models:/paluku", "http://127.0.0.1:1", tmp_path)


def test_a_local_bundle_is_itself(bundle: Path, tmp_path: Path) -> None:
    assert fetch(str(bundle), "", tmp_path) == bundle


@pytest.mark.ray
def test_a_run_holds_params_curves_and_files(local_mlflow: LocalMlflow, tmp_path: Path) -> None:
    run_id = create_run(local_mlflow.uri, "codec", Recipe(), DATA, name="one", tags={"codec_hash": "abc"})
    (tmp_path / "sample.txt").write_text("a")
    for rank, speaks in enumerate((True, False)):
        reporter = MlflowReporter(local_mlflow.uri, run_id, speaks=speaks)
        for step in (1, 2):
            reporter.metrics(step, {"loss": 10.0 * rank + 1 / step})
        reporter.artifact(tmp_path / "sample.txt", f"samples-{rank}")
    end_run(local_mlflow.uri, run_id, finished=True)

    client = MlflowClient(local_mlflow.uri)
    run = client.get_run(run_id)
    assert run.data.params == {"steps": "3", "inner.width": "2"}
    assert run.data.tags["codec_hash"] == "abc"
    assert [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs] == [("utterances", "123")]
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")] == [(1, 1.0), (2, 0.5)]
    assert {f.path for f in client.list_artifacts(run_id)} == {"config.json", "samples-0"}
    assert run.info.status == "FINISHED"


@pytest.mark.ray
def test_the_champion_is_fetched_by_several_at_once(
    local_mlflow: LocalMlflow, bundle: Path, tmp_path: Path
) -> None:
    run_id = create_run(local_mlflow.uri, "s2s", Recipe(), DATA)
    version = register(bundle, "fetched", local_mlflow.uri, run_id)
    found: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(fetch("models:/fetched@champion", local_mlflow.uri, tmp_path))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert found[0] == fetch(f"models:/fetched/{version}", local_mlflow.uri, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [found[0].name]
    with pytest.raises(CheckpointError, match="is not in the registry"):
        fetch("models:/fetched@candidate", local_mlflow.uri, tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_serve_says_which_port_is_taken(taken_port: int, bundle: Path) -> None:
    code = "import sys; from jobs.serve import main; main()"
    arguments = [sys.executable, "-c", code, "--bundle", str(bundle), "--port", str(taken_port)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"port {taken_port}, wanted for the Serve endpoint, is in use" in done.stderr


def test_serve_names_a_damaged_bundle_before_anything_starts(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    weights = bundle / "s2s" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    code = "import sys; from jobs.serve import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--bundle", str(bundle)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "model.safetensors" in done.stderr
    assert "damaged" in done.stderr


class Placed(Config):
    tracking_uri: str
    others: tuple[str, ...]


@pytest.mark.ray
def test_no_password_stands_in_a_run(local_mlflow: LocalMlflow, tmp_path: Path) -> None:
    placed = Placed(tracking_uri="https://me:secret@mlflow.example", others=("http://host:5000", "a@b"))
    client = MlflowClient(local_mlflow.uri)
    run = client.get_run(create_run(local_mlflow.uri, "codec", placed, None))
    assert run.data.params["tracking_uri"] == "https://me:***@mlflow.example"
    written = client.download_artifacts(run.info.run_id, "config.json", str(tmp_path))
    config = json.loads(Path(written).read_text(encoding="utf-8"))
    assert config["others"] == list(placed.others)
    assert config["tracking_uri"] == "https://me:***@mlflow.example"


@pytest.mark.ray
def test_a_registry_that_does_not_say_is_no_registry_without_a_champion(
    local_mlflow: LocalMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert version_at("nobody", "champion", local_mlflow.uri) is None

    def refuse(*_: Any) -> Any:
        raise MlflowException("the database is locked", error_code=TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", refuse)
    with pytest.raises(ServiceError, match="does not say what nobody@champion is"):
        version_at("nobody", "champion", local_mlflow.uri)
