"""The routes: the WebSocket, and what an operator asks."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response, status
from fastapi.responses import PlainTextResponse
from starlette.websockets import WebSocket

from paluku.protocol.messages import VERSION
from paluku.serving.connection import Connection
from paluku.serving.service import Service


def build_app(service: Service) -> FastAPI:
    """The ASGI application of one ingress process. The service runs while the application does."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(title="Paluku", lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_websocket_route("/ws", _talk(service))

    @app.get("/health")
    def health(response: Response) -> dict[str, object]:
        """503 when the clock or a worker has stopped."""
        if not service.is_running:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return {
            "status": "ok" if service.is_running else "stopped",
            "protocol_version": VERSION,
            "sample_rate_hz": service.card.sample_rate_hz,
            "bundle": service.card.bundle,
        }

    @app.get("/stats")
    def stats() -> dict[str, object]:
        return service.stats()

    @app.get("/", response_class=PlainTextResponse)
    def root() -> str:
        return "Paluku: speech in, speech out. The WebSocket is /ws; see also /health and /stats.\n"

    return app


def _talk(service: Service) -> Callable[[WebSocket], object]:
    async def talk(websocket: WebSocket) -> None:
        await Connection(websocket, service).run()

    return talk
