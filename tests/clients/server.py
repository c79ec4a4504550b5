"""The application on a loopback port, over stages without a model.

Whoever connects needs the key that is printed with the port.

`python -m tests.clients.server` serves until its standard input closes.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from paluku.serving.app import build_app
from paluku.serving.config import ServingConfig
from paluku.serving.gate import Gate
from paluku.serving.service import Service
from paluku.streaming.clock import MonotonicClock
from paluku.streaming.vad import VadWorker
from tests.fakes.answering import answering_replica
from tests.fakes.stages import GRAPH, FakeFleet, FakeSnapshots
from tests.fakes.vad import FakeVad

KEY = "pk_stock-clients-know-this-key"
SEATS = 4


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Gives the port."""
    clock, config = MonotonicClock(), ServingConfig()
    fleets = [FakeFleet(answering_replica(kind, SEATS)) for kind in GRAPH]
    service = Service(fleets, FakeSnapshots(), config, clock, lambda _: VadWorker(FakeVad()))
    app = build_app(service, Gate(config, clock, {"PALUKU_KEYS": f"clients={KEY}"}))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    http = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2))
    running = asyncio.create_task(http.serve(sockets=[listener]))
    while not http.started:
        await asyncio.sleep(0.001)
    try:
        yield listener.getsockname()[1]
    finally:
        http.should_exit = True
        await running
        listener.close()


async def main() -> None:
    async with serving() as port:
        print(json.dumps({"port": port, "key": KEY}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
