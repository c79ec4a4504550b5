"""One WebSocket from accept to close: the protocol in front of the service."""

import asyncio

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from paluku.errors import SeatsExhausted
from paluku.log import logger
from paluku.protocol import native
from paluku.protocol.machine import ServerSide
from paluku.protocol.messages import ClientMessage, CloseCode, End, Hello, UserAudio, ViolationError
from paluku.serving.ports import StageLostError
from paluku.serving.service import Service
from paluku.serving.session import Ending, Outgoing, Session
from paluku.streaming.ports import Conditions

log = logger(__name__)

CLIENT_LEFT = Ending.of(CloseCode.GOING_AWAY, "client_left", "the client left before its session ended")


class Connection:
    """A client's socket and its place in the protocol."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket = socket
        self._service = service
        self._protocol = ServerSide(service.card.sample_rate_hz)

    async def run(self) -> None:
        """Serve the client until it leaves or its session ends. The seat is free afterwards."""
        await self._socket.accept()
        try:
            ending = await self._serve()
        except WebSocketDisconnect:
            ending = CLIENT_LEFT
        self._service.ended(ending)
        await self._close(ending)

    async def _serve(self) -> Ending:
        try:
            hello = await self._hello()
            conditions = Conditions(voice=hello.voice, style=hello.style, seed=hello.seed)
            async with self._service.seated(conditions) as session:
                await self._socket.send_bytes(native.encode(self._service.ready(session)))
                return await self._stream(session)
        except ViolationError as error:
            return Ending.of_violation(error)
        except SeatsExhausted as error:
            return Ending.of(CloseCode.TRY_AGAIN, "no_seat", str(error), error.retry_s)
        except StageLostError as error:
            return Ending.of(CloseCode.STAGE_LOST, "stage_lost", str(error))

    async def _hello(self) -> Hello:
        try:
            async with asyncio.timeout(self._service.config.hello_timeout_s):
                hello = await self._receive()
        except TimeoutError:
            raise ViolationError("no_hello", "no Hello came in time", CloseCode.POLICY) from None
        assert isinstance(hello, Hello), f"the protocol let {type(hello).__name__} come first"
        return hello

    async def _stream(self, session: Session) -> Ending:
        """Read and write at once, until the session has ended and everything before that is sent."""
        reading = asyncio.create_task(self._read(session))
        writing = asyncio.create_task(self._write(session))
        cut = asyncio.create_task(session.cut.wait())
        try:
            await asyncio.wait((writing, cut), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, writing, cut):
                task.cancel()
            results = await asyncio.gather(reading, writing, cut, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        assert session.ending is not None, "a session stopped streaming without an ending"
        return session.ending

    async def _read(self, session: Session) -> None:
        clock = self._service.clock
        try:
            while True:
                async with asyncio.timeout(self._service.config.idle_timeout_s):
                    message = await self._receive()
                if isinstance(message, UserAudio):
                    session.hear(message.pcm, clock.now())
                else:
                    assert isinstance(message, End), f"the protocol let {type(message).__name__} pass"
                    session.drain(clock.now())
        except ViolationError as error:
            session.end(Ending.of_violation(error))
        except TimeoutError:
            session.end(Ending.of(CloseCode.POLICY, "idle", "no sound came for too long; connect again"))
        except WebSocketDisconnect:
            session.cut_off(CLIENT_LEFT)

    async def _write(self, session: Session) -> None:
        while True:
            message = await session.outbox.get()
            if isinstance(message, Ending):
                return
            if isinstance(message, Outgoing):
                message = message.at(self._service.clock.now())
            await self._socket.send_bytes(native.encode(message))

    async def _receive(self) -> ClientMessage:
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005))
        data = event.get("bytes")
        if data is None:
            raise ViolationError(
                "not_binary", "a text message came; this protocol is binary", CloseCode.NOT_BINARY
            )
        return self._protocol.receive(data)

    async def _close(self, ending: Ending) -> None:
        """Say why and close; a client that does not read is not waited for."""
        states = (self._socket.client_state, self._socket.application_state)
        if WebSocketState.DISCONNECTED in states:
            return
        try:
            async with asyncio.timeout(self._service.config.close_timeout_s):
                if ending.error is not None:
                    await self._socket.send_bytes(native.encode(ending.error))
                await self._socket.close(ending.close_code, ending.code)
        except (TimeoutError, WebSocketDisconnect):
            log.info("a client was gone before it could be told %s", ending.code)
