"""The routes: two WebSocket protocols, the page, what an operator asks. docs/operations.md is the prose."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response, status
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.websockets import WebSocket

from paluku.errors import SeatsExhausted, ServiceError
from paluku.protocol.messages import VERSION
from paluku.serving.config import ServingConfig
from paluku.serving.connection import Connection
from paluku.serving.gate import Gate, Refused, refusal
from paluku.serving.metrics import registry
from paluku.serving.page import add_page, web_folder
from paluku.serving.realtime import Realtime
from paluku.serving.selftest import SelfTest, SelfTestBusyError, SelfTestReport
from paluku.serving.service import Service

# OpenAI's path, and the one of clients that are given a base URL ending in /openai.
REALTIME_PATHS = ("/v1/realtime", "/openai/v1/realtime")


def build_app(service: Service, gate: Gate, web: Path | None = None) -> FastAPI:
    """The ASGI application of one ingress process. The service runs while the application does.

    `web` is the folder of the page, `web_folder()` by default.
    """

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(title="Paluku", lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    _add_talking(app, service, gate)
    _add_health(app, service)
    _add_operating(app, service, gate)
    add_page(app, web or web_folder())
    return app


def _add_talking(app: FastAPI, service: Service, gate: Gate) -> None:
    async def native(websocket: WebSocket) -> None:
        await Connection(websocket, service, gate).run()

    async def realtime(websocket: WebSocket) -> None:
        await Realtime(websocket, service, gate).run()

    app.add_api_websocket_route("/ws", native)
    for path in REALTIME_PATHS:
        app.add_api_websocket_route(path, realtime)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    def health(response: Response) -> dict[str, object]:
        """503 when the clock or a worker has stopped. Needs no key: load balancers have none."""
        if not service.is_running:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return {
            "status": "ok" if service.is_running else "stopped",
            "protocol_version": VERSION,
            "sample_rate_hz": service.card.sample_rate_hz,
            "bundle": service.card.bundle,
        }


def _add_operating(app: FastAPI, service: Service, gate: Gate) -> None:
    prometheus, self_test = registry(service, gate), SelfTest(service)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused), f"{type(error).__name__} is no refusal"
        return refusal(error)

    @app.get("/stats")
    async def stats(request: Request) -> dict[str, Any]:
        gate.check_operator(request.headers)
        found = service.stats()
        return found | {"refusals": dict(gate.refusals)} | cost(service.config, found)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        gate.check_operator(request.headers)
        return Response(generate_latest(prometheus), media_type=CONTENT_TYPE_LATEST)

    @app.post("/test", response_model=None)
    async def test(request: Request) -> Response | SelfTestReport:
        gate.check_operator(request.headers)
        return await _tested(self_test)


async def _tested(self_test: SelfTest) -> Response | SelfTestReport:
    try:
        return await self_test.run()
    except SelfTestBusyError as error:
        return _failed(status.HTTP_409_CONFLICT, "busy", error)
    except SeatsExhausted as error:
        return _failed(status.HTTP_503_SERVICE_UNAVAILABLE, "no_seat", error, error.retry_s)
    except ServiceError as error:  # a stage is lost, or the session hangs
        return _failed(status.HTTP_503_SERVICE_UNAVAILABLE, "failed", error)


def _failed(code: int, name: str, error: Exception, retry_s: float | None = None) -> Response:
    headers = {} if retry_s is None else {"Retry-After": str(math.ceil(retry_s))}
    return JSONResponse({"code": name, "message": str(error)}, code, headers)


def cost(config: ServingConfig, stats: dict[str, Any]) -> dict[str, Any]:
    """What an hour of one user costs: at the sessions there are now, and were every seat taken."""
    price = config.price_per_hour
    if price is None:
        return {}
    sessions, seats = stats["sessions"], stats["seats"]
    return {
        "price_currency": config.price_currency,
        "cost_per_user_hour": price / sessions if sessions else None,
        "cost_per_user_hour_when_full": price / seats if seats else None,
    }
