"""One connection to a server: from the address to Ready, and how it may end."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)

from paluku.errors import SeatsExhausted, ServiceError
from paluku.protocol.machine import ClientSide, State
from paluku.protocol.messages import CloseCode, Error, Hello, Ready, ServerMessage
from paluku.protocol.sound import sound_decoder, sound_encoder

CONNECT_TIMEOUT_S = 10.0
# Seating takes a few seconds at most, also where a replica has to be found for it.
READY_TIMEOUT_S = 20.0
# Errors behind which the same session may go on over another connection.
_RESUMABLE = ("restarting",)
# Refusals that pass: a session that waits to be resumed is still there. One that ended so is not.
_TRANSIENT = (*_RESUMABLE, "stage_lost")
# How proxies and servers close under a session that lives on elsewhere.
_RESUMABLE_CODES = (
    CloseCode.GOING_AWAY,
    CloseCode.STAGE_LOST,
    CloseCode.RESTARTING,
    CloseCode.TRY_AGAIN,
)


class LostError(ServiceError):
    """The connection is gone, or none can be had just now; the session may live on."""


class Link:
    """An open connection on which the server has said Ready."""

    def __init__(
        self,
        connection: ClientConnection,
        protocol: ClientSide,
        hello: Hello,
        ready: Ready,
        round_trip_s: float,
    ) -> None:
        self.connection = connection
        self.protocol = protocol
        self.ready = ready
        self.received_s = time.monotonic()  # when Ready came
        self.round_trip_s = round_trip_s
        self.encoder = sound_encoder(hello.encoding, hello.sample_rate_hz)
        self.decoder = sound_decoder(hello.encoding, hello.sample_rate_hz)

    async def receive(self) -> ServerMessage | None:
        """The next message; None once the server has closed after a finished session.

        Raises:
            LostError: when the session may be resumed.
            ServiceError: when it is over.
            SeatsExhausted: when the server says when to come back.
            ProtocolError: when the server breaks the protocol.
        """
        return await _receive(self.connection, self.protocol)


async def dial(url: str, hello: Hello, key: str | None) -> Link:
    """Connect, say hello, and wait for Ready.

    Raises:
        LostError: when nothing answers at `url`, or not now.
        ServiceError: when it is no address, or the server refuses.
        SeatsExhausted: when the server has no free seat.
        ProtocolError: when it does not speak the protocol, or finds that we do not.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else None
    with _reachable(url):
        # Compression costs more time than it saves bytes of sound.
        connection = await connect(
            url, open_timeout=CONNECT_TIMEOUT_S, compression=None, additional_headers=headers
        )
    try:
        protocol = ClientSide(hello.resume.next_reply if hello.resume else 0)
        with _reachable(url):
            pong = await connection.ping()
            await connection.send(protocol.send(hello))
            async with asyncio.timeout(READY_TIMEOUT_S):
                ready = await _receive(connection, protocol, _TRANSIENT)
                round_trip_s = await pong
        assert isinstance(ready, Ready), f"the protocol let {type(ready).__name__} come first"
        return Link(connection, protocol, hello, ready, round_trip_s)
    except BaseException:
        await connection.close()
        raise


async def _receive(
    connection: ClientConnection, protocol: ClientSide, resumable: Sequence[str] = _RESUMABLE
) -> ServerMessage | None:
    try:
        data = await connection.recv(decode=False)
    except ConnectionClosed as error:
        code = error.rcvd.code if error.rcvd else None
        if code == CloseCode.DONE and protocol.state is State.ENDING:
            return None
        kind = LostError if code is None or code in _RESUMABLE_CODES else ServiceError
        raise kind(f"the server closed the connection ({error}); connect again") from error
    message = protocol.receive(data)
    if isinstance(message, Error):
        raise _refusal(message, resumable)
    return message


def _refusal(error: Error, resumable: Sequence[str]) -> ServiceError | SeatsExhausted:
    if error.retry_s is not None:
        return SeatsExhausted(f"the server refuses: {error.message}", error.retry_s)
    kind = LostError if error.code in resumable else ServiceError
    return kind(f"the server ends the session ({error.code}): {error.message}")


@contextmanager
def _reachable(url: str) -> Iterator[None]:
    try:
        yield
    except InvalidURI as error:
        raise ServiceError(f"{url} is no WebSocket address; use ws://HOST:PORT/ws") from error
    except InvalidStatus as error:
        status = error.response.status_code
        # A proxy whose servers are just coming up, or whoever counts connections.
        kind = LostError if status >= 500 or status == 429 else ServiceError
        raise kind(f"{url} cannot be reached ({error}); is it the right path and key?") from error
    except (OSError, TimeoutError, InvalidHandshake, InvalidMessage, ConnectionClosed) as error:
        raise LostError(f"{url} cannot be reached ({error}); is the server running?") from error
