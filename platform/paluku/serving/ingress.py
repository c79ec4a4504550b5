"""The ingress deployment: the application of `app.py` over Serve handles. No torch in here."""

import gc
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from paluku.log import serves_as
from paluku.serving.app import build_app
from paluku.serving.config import ServingConfig
from paluku.serving.fleet import HandleFleet
from paluku.serving.gate import Gate
from paluku.serving.service import Service
from paluku.serving.snapshots import HandleSnapshots
from paluku.streaming.clock import MonotonicClock
from paluku.streaming.vad import SileroVad, VadWorker


@serve.ingress()
class Ingress:
    """Sessions, protocols and clock of one process, in front of the stages in the order of the graph."""

    def __init__(
        self,
        stages: Sequence[DeploymentHandle[Any]],
        memory: DeploymentHandle[Any],
        config: ServingConfig,
    ) -> None:
        clock = MonotonicClock()
        fleets = [HandleFleet(stage, clock) for stage in stages]
        snapshots = HandleSnapshots(memory, config.step_timeout_s)
        self._service = Service(fleets, snapshots, config, clock, _vad)
        serves_as(ingress=self._service.name)
        # The service starts with the application, which Serve starts before it calls the replica ready.
        self._app = build_app(self._service, Gate(config, clock))
        # What the imports made lives as long as the process: a full collection that walks through all of
        # it takes longer than a tick.
        gc.collect()
        gc.freeze()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if not self._service.is_running:
            raise RuntimeError("the clock or a worker of the service has stopped")


def _vad(sample_rate_hz: int) -> VadWorker:
    return VadWorker(SileroVad(sample_rate_hz))
