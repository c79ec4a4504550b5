"""Real servers for the tests marked `ray`: one cluster and one MLflow server for the whole run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from paluku.cluster.local import LocalRay
from paluku.cluster.ports import free_ports
from paluku.registry.server import LocalMlflow


@pytest.fixture(scope="session")
def local_ray() -> Iterator[LocalRay]:
    with LocalRay() as ray:
        yield ray


@pytest.fixture(scope="session")
def local_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMlflow]:
    with LocalMlflow(Path(tmp_path_factory.mktemp("mlflow")), free_ports(1)[0]) as mlflow:
        yield mlflow
