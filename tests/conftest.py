"""One thread, no deadlines, and real servers for the tests marked `ray`: one of each for the whole run."""

import os

# Several threads on small tensors fight over two cores; and what tests start inherits this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The stand-in of the Hugging Face Hub (tests/fakes/hub.py) has no xet; the client asks once, when imported.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from paluku.cluster.local import LocalRay
from paluku.cluster.ports import free_ports
from paluku.registry.server import LocalMlflow

torch.set_num_threads(1)
# A deadline asserts a duration, and machines are noisy.
hypothesis.settings.register_profile("paluku", deadline=None)
hypothesis.settings.load_profile("paluku")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[LocalRay]:
    with LocalRay() as ray:
        yield ray


@pytest.fixture(scope="session")
def local_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMlflow]:
    with LocalMlflow(Path(tmp_path_factory.mktemp("mlflow")), free_ports(1)[0]) as mlflow:
        yield mlflow
