"""The ingress deployment: the application of `app.py` over three Serve handles. No torch in here."""

import asyncio
import secrets

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from paluku.serving.app import build_app
from paluku.serving.config import ServingConfig
from paluku.serving.handles import HandleStage
from paluku.serving.ports import LaneCard
from paluku.serving.service import Service
from paluku.streaming.clock import MonotonicClock


@serve.ingress()
class Ingress:
    """Sessions, protocol and clock of one process, in front of one lane."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        encode: DeploymentHandle,
        converse: DeploymentHandle,
        decode: DeploymentHandle,
        config: ServingConfig,
    ) -> None:
        owner = secrets.token_hex(8)
        stages = [HandleStage(handle, owner) for handle in (encode, converse, decode)]
        card = LaneCard.of(await asyncio.gather(*[stage.card() for stage in stages]))
        self._service = Service(stages, card, config, MonotonicClock())
        self._app = build_app(self._service)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if not self._service.is_running:
            raise RuntimeError("the clock or a worker of the lane has stopped")
