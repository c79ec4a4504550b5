"""A lean WebSocket client for load: one protocol object per socket, no task, no queue.

`websockets` without I/O does RFC 6455 at 6 us for a message up and a message down; its asyncio client
costs ten times as much in tasks and queues, which a hundred sessions in one process do not have.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import NamedTuple, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from paluku.protocol.messages import CloseCode

MAX_MESSAGE_BYTES = 1 << 20
ABNORMAL = 1006  # RFC 6455, section 7.1.5: the connection ended without a close frame


class Closed(NamedTuple):
    """How a socket ended: a close code and its reason, or the status of an answer that was no upgrade."""

    code: int
    reason: str


class Socket(asyncio.Protocol):
    """One WebSocket. `on_open`, `on_message` and `on_close` are called on the loop; the last exactly once."""

    def __init__(
        self,
        url: str,
        on_open: Callable[[], None],
        on_message: Callable[[bytes], None],
        on_close: Callable[[Closed], None],
        key: str = "",
    ) -> None:
        self._websocket = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE_BYTES)
        self._on_open, self._on_message, self._on_close = on_open, on_message, on_close
        self._key = key
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._websocket.state is State.OPEN

    def send(self, data: bytes) -> None:
        """A binary message; dropped once the socket is closing, as bytes on their way would be."""
        if self.is_open:
            self._websocket.send_binary(data)
            self._flush()

    def close(self) -> None:
        """Say goodbye; nothing is called back any more."""
        self._hush()
        if self.is_open:
            self._websocket.send_close(CloseCode.DONE)
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Cut the connection without a word, as a client that loses its network; `on_close` is called."""
        if self._transport is not None:
            self._transport.abort()

    def _hush(self) -> None:
        self._on_open = lambda: None
        self._on_message = self._on_close = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)  # a TCP one; uvloop's has no such base
        request = self._websocket.connect()
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        self._websocket.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Give whole messages on; pings and the closing handshake are answered here."""
        was_open = self.is_open
        self._websocket.receive_data(data)
        events = self._websocket.events_received()
        if self.is_open and not was_open:
            self._on_open()
        for event in events:
            if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._on_message(bytes(event.data))
        self._flush()
        if self._websocket.handshake_exc is not None and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> bool:
        """The server has sent all it will."""
        self._websocket.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Say how it ended."""
        with contextlib.suppress(EOFError):
            self._websocket.receive_eof()
        refusal = self._websocket.handshake_exc
        if isinstance(refusal, InvalidStatus):
            self._on_close(Closed(refusal.response.status_code, refusal.response.reason_phrase))
            return
        code = self._websocket.close_code if self._websocket.close_code is not None else ABNORMAL
        reason = self._websocket.close_reason or (type(exc).__name__ if exc else "no close frame")
        self._on_close(Closed(code, reason))

    def _flush(self) -> None:
        for data in self._websocket.data_to_send():
            if self._transport is None or self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()


async def connect(socket: Socket, url: str) -> None:
    """Open the TCP connection (with TLS for wss); the upgrade is told through the socket's callbacks.

    Raises:
        OSError: when nothing answers.
    """
    place = parse_uri(url)
    await asyncio.get_running_loop().create_connection(
        lambda: socket, place.host, place.port, ssl=ssl.create_default_context() if place.secure else None
    )
