"""A client that does not read: driven below the socket, where its silence can be exact."""

import asyncio
from typing import Any

import pytest

from paluku.protocol import native
from paluku.protocol.messages import Error, Hello, ReplyAudio, ServerMessage, UserAudio
from paluku.serving.config import ServingConfig
from tests.fakes.stages import frame
from tests.wire.server import RATE_HZ, Server, until


class Pipe:
    """An ASGI WebSocket whose reader can stop."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[ServerMessage] = []
        self.closed: tuple[int, str] | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self._say({"type": "websocket.connect"})

    def say(self, message: Hello | UserAudio) -> None:
        self._say({"type": "websocket.receive", "bytes": native.encode(message)})

    def _say(self, event: dict[str, Any]) -> None:
        self.incoming.put_nowait(event)

    async def send(self, event: Any) -> None:
        await self.reads.wait()
        if event["type"] == "websocket.send":
            self.sent.append(native.decode_server(event["bytes"]))
        elif event["type"] == "websocket.close":
            self.closed = (event["code"], event["reason"])


SCOPE = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}


async def stop_reading(server: Server, pipe: Pipe, frames: int) -> None:
    """Greet, stop reading, and let so many frames be answered."""
    pipe.say(Hello(sample_rate_hz=RATE_HZ))
    await until(lambda: pipe.sent)
    pipe.reads.clear()
    for number in range(frames):
        pipe.say(UserAudio(number, frame(number)))
        await until(lambda: server.service.stats()["sessions"] == 0 or pipe.incoming.empty())
        await server.tick()


@pytest.mark.parametrize("reads_again", [True, False])
def test_a_slow_reader_is_counted_closed_and_frees_its_seat(reads_again: bool) -> None:
    async def run() -> None:
        server = Server(num_seats=1, config=ServingConfig(max_waiting_messages=4, close_timeout_s=0.05))
        pipe = Pipe()
        await server.service.start()
        talking = asyncio.create_task(server.app(SCOPE, pipe.incoming.get, pipe.send))
        await stop_reading(server, pipe, frames=10)
        await until(lambda: server.service.stats()["seats_used"] == 0)
        assert server.service.stats()["endings"] == {"slow_reader": 1}
        if reads_again:
            pipe.reads.set()
        await talking
        assert not any(isinstance(message, ReplyAudio) for message in pipe.sent)
        if reads_again:
            assert isinstance(pipe.sent[-1], Error)
            assert pipe.closed == (1008, "slow_reader")
        else:
            assert pipe.closed is None  # it could not be told; the socket is dropped
        await server.service.stop()

    asyncio.run(run())
