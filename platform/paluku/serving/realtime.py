"""One WebSocket of `/v1/realtime`: OpenAI's protocol in front of a session. docs/realtime.md is the prose."""

import asyncio
import math
from contextlib import AbstractContextManager, nullcontext

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from paluku.errors import SeatsExhausted
from paluku.log import logger
from paluku.protocol.messages import CloseCode, ViolationError
from paluku.protocol.realtime import events as realtime
from paluku.protocol.realtime.floor import Facts
from paluku.protocol.realtime.handshake import selected
from paluku.protocol.realtime.machine import Machine
from paluku.serving import events
from paluku.serving.connection import CLIENT_LEFT, ends_on_fault
from paluku.serving.events import Ending, Event
from paluku.serving.gate import TOO_LONG, Gate, Pass, Refused, deny
from paluku.serving.ports import StageLostError
from paluku.serving.service import Service
from paluku.serving.session import Session
from paluku.streaming.ports import Conditions

log = logger(__name__)

# No message for so long and the microphone is taken to be off: ten of the 40 ms messages it sends.
QUIET_S = 0.4
# Stock clients are silent between push-to-talk turns, so they are waited for longer than native ones.
IDLE_TIMES = 10
BYTES_PER_SAMPLE = 2


class Realtime:
    """A client's socket until its session ends. Refusals are HTTP answers, before the socket is accepted."""

    def __init__(self, socket: WebSocket, service: Service, gate: Gate | None = None) -> None:
        self._socket = socket
        self._service = service
        self._gate = gate

    async def run(self) -> None:
        """Serve the client until it leaves or its session ends. The seat is free afterwards."""
        try:
            with self._admitted() as admission:
                ending = await self._serve(admission)
        except Refused as refused:
            self._service.ended(refused.ending)
            await deny(self._socket, refused)
            return
        except WebSocketDisconnect:
            ending = CLIENT_LEFT
        self._service.ended(ending)
        await self._close(ending)

    def _admitted(self) -> AbstractContextManager[Pass | None]:
        if self._gate is None:
            return nullcontext()
        host = self._socket.client.host if self._socket.client else ""
        return self._gate.admit(self._socket.headers, host, takes_clips=True)

    async def _serve(self, admission: Pass | None) -> Ending:
        try:
            async with self._service.attached(Conditions()) as session:
                try:
                    await self._socket.accept(selected(self._socket.scope.get("subprotocols", [])))
                    return await Talk(self._socket, self._service, session, admission).run()
                finally:
                    session.cut_off(CLIENT_LEFT)  # unless it has ended: nobody can resume it
        except SeatsExhausted as error:
            raise Refused(503, CloseCode.TRY_AGAIN, "no_seat", str(error), error.retry_s) from error
        except StageLostError as error:
            retry_s = self._service.config.retry_s
            raise Refused(503, CloseCode.STAGE_LOST, "stage_lost", str(error), retry_s) from error

    async def _close(self, ending: Ending) -> None:
        """A client that does not read is not waited for."""
        if WebSocketState.DISCONNECTED in (self._socket.client_state, self._socket.application_state):
            return
        try:
            async with asyncio.timeout(self._service.config.close_timeout_s):
                await self._socket.close(ending.close_code, ending.code)
        except (TimeoutError, WebSocketDisconnect):
            log.info("a client was gone before it could be told %s", ending.code)


class Talk:
    """A seated client: its events to the machine, the session's news too, and what comes of both."""

    def __init__(self, socket: WebSocket, service: Service, session: Session, admission: Pass | None) -> None:
        card = service.card
        turns = service.config.turns
        facts = Facts(
            f"paluku-{card.bundle[:12]}",
            card.sample_rate_hz,
            card.frame_samples,
            turns.speech_probability,
            round(turns.min_silence_ms),
        )
        self._socket = socket
        self._service = service
        self._session = session
        self._admission = admission
        self._deadline_s = admission.deadline_s if admission else math.inf
        self._machine = Machine(session.session_id, facts)
        # The client and the session speak to the machine in turn, and what it says leaves in that order.
        # Whoever reads slowly holds the lock: then the session's outbox fills, and its bound ends it.
        self._order = asyncio.Lock()

    async def run(self) -> Ending:
        """Read and write until the session has ended and everything before that is sent."""
        session = self._session
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(ends_on_fault(session))
        waits = [asyncio.create_task(work) for work in (self._write(), session.cut.wait())]
        try:
            # Reading may be over before: what was said until then is sent.
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, *waits):
                task.cancel()
            _, *results = await asyncio.gather(reading, *waits, return_exceptions=True)
            if session.ending is None:
                session.cut_off(CLIENT_LEFT)
        for result in results:
            # A write to a socket that is gone: nobody is left to tell.
            if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                raise result
        assert session.ending is not None, "a session stopped streaming without an ending"
        return session.ending

    async def _write(self) -> None:
        async with self._order:
            await self._carry_out(self._machine.start())
        while not isinstance(event := await self._session.outbox.get(), Ending):
            async with self._order:
                await self._carry_out(self._news(event))
        if event.error is not None:
            async with self._order:
                await self._carry_out(self._machine.ended(event.code, event.error.message))

    async def _read(self) -> None:
        session, clock = self._session, self._service.clock
        said_s = clock.now()
        try:
            while session.ending is None:
                message = await self._receive()
                now_s = clock.now()
                if now_s >= self._deadline_s:
                    session.end(TOO_LONG)
                elif message is not None:
                    said_s = now_s
                    await self._obey(message)
                elif now_s - said_s > self._service.config.idle_timeout_s * IDLE_TIMES:
                    message = "no event came for too long; connect again"
                    session.end(Ending.of(CloseCode.POLICY, "idle", message))
        except ViolationError as error:
            session.end(Ending.of_violation(error))
        except WebSocketDisconnect:
            session.cut_off(CLIENT_LEFT)

    async def _obey(self, message: str | bytes) -> None:
        if self._admission is not None:
            data = message.encode() if isinstance(message, str) else message
            self._admission.message(len(data), self._service.clock.now())
        async with self._order:
            await self._carry_out(self._machine.receive(message))

    async def _receive(self) -> str | bytes | None:
        """The next message, or none when the client has been quiet for a while."""
        try:
            async with asyncio.timeout(QUIET_S):
                event = await self._socket.receive()
        except TimeoutError:
            async with self._order:
                await self._carry_out(self._machine.quiet())
            return None
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005))
        text = event.get("text")
        return event["bytes"] if text is None else text

    def _news(self, event: Event) -> list[realtime.Act]:
        machine = self._machine
        match event:
            case events.ReplyFrame(number, pcm, present, is_audible, text):
                return machine.reply_frame(number, pcm, present, is_audible, text)
            case events.UserSpeech(started, frame):
                return machine.user_speech(started, frame)
            case events.ReplySpeech(started, frame):
                return machine.reply_speech(started, frame)
            case events.Interrupted(frame):
                return machine.interrupted(frame)
            case _:
                return []  # alignment, markers and reports have no words in this protocol

    async def _carry_out(self, acts: list[realtime.Act]) -> None:
        for act in acts:
            if isinstance(act, realtime.Say):
                await self._socket.send_text(realtime.write(act.event))
            else:
                self._do(act)

    def _do(self, act: realtime.Act) -> None:
        session = self._session
        match act:
            case realtime.Hear(pcm):
                self._hear(pcm)
            case realtime.Interrupt():
                session.interrupt()
            case realtime.Adjust(voice):
                session.adjust(session.conditions.model_copy(update={"voice": voice}))
            case realtime.TakeTurns(how):
                session.turn_taking = how
            case realtime.FreeRun(on):
                session.free_running = on
            case realtime.Forget():
                session.forget()
            case realtime.HeardUntil(frame):
                self._session.truncate(frame)
            case _:
                raise AssertionError(f"the machine asked for {type(act).__name__}")

    def _hear(self, pcm: bytes) -> None:
        now_s = self._service.clock.now()
        if self._admission is not None:
            seconds = len(pcm) / BYTES_PER_SAMPLE / self._service.card.sample_rate_hz
            try:
                self._admission.sound(seconds, now_s)
            except ViolationError as error:
                self._session.end(Ending.of_violation(error))
                return
        self._session.hear(pcm, now_s)
