"""Runs in a real PostgreSQL and files in an object store: what a team's MLflow stands on."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow.artifacts
import pytest
from mlflow.tracking import MlflowClient

from paluku.cluster.ports import LOOPBACK, free_ports
from paluku.config import Config
from paluku.errors import ServiceError
from paluku.registry import server
from paluku.registry.server import LocalMlflow
from paluku.registry.store import fetch, register
from paluku.registry.tracking import Data, MlflowReporter, create_run, end_run
from tests.fakes.bundle import tiny_bundle
from tests.fakes.object_store import KEY, SECRET, bucket

UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root
DATABASE = "paluku"


class Recipe(Config):
    steps: int = 3


def program(name: str) -> Path | None:
    """Debian keeps PostgreSQL's programs off the path."""
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return Path(found) if found else versions[-1] if versions else None


def run(*command: str | Path, cwd: Path) -> None:
    as_user = {"user": UNPRIVILEGED} if os.getuid() == 0 else {}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, **as_user
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URI of an empty database of a server of its own."""
    initdb, pg_ctl, createdb = map(program, ("initdb", "pg_ctl", "createdb"))
    if initdb is None or pg_ctl is None or createdb is None:
        pytest.skip("PostgreSQL is not on this machine: apt-get install postgresql")
    folder, (port,) = Path(tempfile.mkdtemp(prefix="paluku-postgresql-", dir="/tmp")), free_ports(1)
    if os.getuid() == 0:
        shutil.chown(folder, UNPRIVILEGED)
    data, password = folder / "data", folder / "password"
    password.write_text("secret")
    password.chmod(0o644)
    run(initdb, "-D", data, "-U", "paluku", "-A", "scram-sha-256", f"--pwfile={password}", "-N", cwd=folder)
    options = f"-p {port} -k {folder} -c listen_addresses={LOOPBACK} -c fsync=off"
    run(pg_ctl, "-D", data, "-w", "-l", folder / "log", "-o", options, "start", cwd=folder)
    uri = f"postgresql://paluku:secret@{LOOPBACK}:{port}"
    try:
        run(createdb, f"--maintenance-db={uri}/postgres", DATABASE, cwd=folder)
        yield f"{uri}/{DATABASE}"
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop", cwd=folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, dict[str, str]]]:
    """A bucket's URI, and the variables that say where it is and as whom it is opened."""
    with bucket() as uri:
        name, _, query = uri.partition("@")[2].partition("?")
        endpoint = query.partition("endpoint_override=")[2].partition("&")[0]
        where = {"MLFLOW_S3_ENDPOINT_URL": f"http://{endpoint}", "AWS_DEFAULT_REGION": "us-east-1"}
        yield f"s3://{name}", where | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.mark.ray
def test_runs_models_and_files_live_in_postgresql_and_s3(
    postgresql: str,
    store: tuple[str, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifacts, where = store
    with monkeypatch.context() as only_the_server:  # clients know neither the store nor its keys
        for name, value in where.items():
            only_the_server.setenv(name, value)
        team = LocalMlflow(tmp_path / "mlflow", free_ports(1)[0], postgresql, artifacts)
        team.start()
    try:
        data = Data("utterances", "123", Path("/data"))
        run_id = create_run(team.uri, "codec", Recipe(), data)
        reporter = MlflowReporter(team.uri, run_id, speaks=True)
        for step in (1, 2):
            reporter.metrics(step, {"loss": 1 / step})
        end_run(team.uri, run_id, finished=True)
        bundle = tiny_bundle(tmp_path)
        register(bundle, "paluku", team.uri, run_id)
        again = fetch("models:/paluku@champion", team.uri, tmp_path / "cache")
        assert (again / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()
        text = mlflow.artifacts.load_text(f"mlflow-artifacts:/{relative(team, run_id)}/config.json")
        assert text == Recipe().to_json()
        team.stop()
        assert not list((tmp_path / "mlflow" / "artifacts").iterdir())
        assert not (tmp_path / "mlflow" / "mlflow.db").exists()
        with monkeypatch.context() as only_the_server:
            for name, value in where.items():
                only_the_server.setenv(name, value)
            team.start()  # another server over the same stores knows the same runs
        client = MlflowClient(team.uri)
        assert [m.value for m in client.get_metric_history(run_id, "loss")] == [1.0, 0.5]
        assert client.get_model_version_by_alias("paluku", "champion").run_id == run_id
    finally:
        team.stop()


def relative(mlflow_server: LocalMlflow, run_id: str) -> str:
    uri = MlflowClient(mlflow_server.uri).get_run(run_id).info.artifact_uri
    assert uri is not None
    assert uri.startswith("mlflow-artifacts:/")
    mlflow.set_tracking_uri(mlflow_server.uri)
    return uri.removeprefix("mlflow-artifacts:/")


def test_a_missing_driver_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(server.DRIVERS, "postgresql", ("no_such_module", "psycopg2-binary"))
    with pytest.raises(ServiceError, match="pip install psycopg2-binary"):
        LocalMlflow(tmp_path, 1, "postgresql+psycopg2://u:p@h/d").start()
    assert not list(tmp_path.iterdir())


def test_no_password_is_quoted_or_on_the_command_line(tmp_path: Path) -> None:
    uri = "postgresql://paluku:secret@db.example/mlflow"
    for password in ("secret", "sec/ret"):
        said = server.without_passwords(f"cannot reach {uri.replace('secret', password)}.")
        assert said == "cannot reach postgresql://paluku:***@db.example/mlflow."
    started = LocalMlflow(tmp_path, 1)
    (tmp_path / "log").write_text(f"cannot reach {uri} {'.' * (600 - len('ecret@db.example/mlflow '))}")
    ended = subprocess.Popen(["false"])
    ended.wait()
    with pytest.raises(
        ServiceError, match="did not start"
    ) as refused:  # its last 600 characters cut it in two
        started._wait(ended, tmp_path / "log")
    assert "ecret" not in str(refused.value)
    assert "secret" not in " ".join(LocalMlflow(tmp_path, 1, uri)._command())
