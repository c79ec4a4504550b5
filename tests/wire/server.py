"""The real application on a loopback port, in this event loop, over stages without a model."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from paluku.protocol import native
from paluku.protocol.messages import Hello, Ready, ServerMessage, UserAudio
from paluku.serving.app import build_app
from paluku.serving.config import ServingConfig
from paluku.serving.gate import Gate
from paluku.serving.service import Service
from paluku.streaming.clock import Clock
from tests.fakes.clock import FakeClock
from tests.fakes.stages import GRAPH, FakeReplica, FakeSnapshots, fake_fleets

RATE_HZ = 16_000


class Server:
    """A running application, its parts, and its address. Its clock stands still unless one is given."""

    def __init__(
        self,
        num_seats: int = 2,
        config: ServingConfig | None = None,
        clock: Clock | None = None,
        replicas: int = 1,
        kinds: Sequence[str] = GRAPH,
    ) -> None:
        self.fleets = fake_fleets(num_seats, replicas, kinds)
        self.snapshots = FakeSnapshots()
        self.clock = clock or FakeClock()
        config = config or ServingConfig()
        self.service = Service(self.fleets, self.snapshots, config, self.clock)
        self.app = build_app(self.service, Gate(config, self.clock, {}))
        self.port = 0

    @property
    def stages(self) -> list[FakeReplica]:
        """The first replica of each stage."""
        return [fleet.replicas[0] for fleet in self.fleets]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def tick(self) -> None:
        """One tick of a standing clock, and all that it sets off inside the server."""
        assert isinstance(self.clock, FakeClock)
        self.clock.advance(self.service.tick_s)
        for _ in range(40):  # three stages and their queues, each a few turns of the loop
            await asyncio.sleep(0)

    async def heard(self, frames: int) -> None:
        """Wait until the sessions together have received so many whole frames."""
        await until(lambda: sum(s.frames_in for s in self.service._sessions.values()) == frames)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]
    config = uvicorn.Config(server.app, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
    http = uvicorn.Server(config)
    running = asyncio.create_task(http.serve(sockets=[listener]))
    await until(lambda: http.started)
    try:
        yield server
    finally:
        http.should_exit = True
        await running
        listener.close()


async def until(holds: Callable[[], object]) -> None:
    """Let the loop run until a condition holds; the test's own time limit ends a wait for nothing."""
    while not holds():
        await asyncio.sleep(0.001)


class RawClient:
    """A WebSocket without our client: says exactly what it is told to."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._seq = 0

    async def hello(self, **asked: object) -> Ready:
        await self.connection.send(native.encode(Hello.model_validate({"sample_rate_hz": RATE_HZ, **asked})))
        ready = await self.receive()
        assert isinstance(ready, Ready), ready
        return ready

    async def say(self, pcm: bytes) -> None:
        await self.connection.send(native.encode(UserAudio(self._seq, pcm)))
        self._seq += 1

    async def receive(self) -> ServerMessage:
        return native.decode_server(await self.connection.recv(decode=False))

    async def to_end(self) -> tuple[list[ServerMessage], int, str]:
        """What is still said, and the close code and reason."""
        said: list[ServerMessage] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                said.append(await self.receive())
        code, reason = self.connection.close_code, self.connection.close_reason
        assert code is not None, "the socket closed without a close frame"
        return said, code, reason or ""


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[RawClient]:
    async with connect(server.url, compression=None, proxy=None) as connection:
        yield RawClient(connection)
