"""One WebSocket of `/ws` from accept to close: the native protocol in front of the service."""

import asyncio
import importlib.metadata
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from paluku.errors import AudioError, SeatsExhausted
from paluku.log import fault, logger
from paluku.protocol import messages, native
from paluku.protocol.machine import ServerSide
from paluku.protocol.messages import ClientMessage, CloseCode, Hello, Ready, ServerMessage, ViolationError
from paluku.serving import events
from paluku.serving.events import Ending, Event
from paluku.serving.gate import TOO_LONG, Gate, Pass, Refused, deny
from paluku.serving.ports import StageLostError
from paluku.serving.service import Resume, Service, UnknownTokenError
from paluku.serving.session import Session
from paluku.serving.transcoding import Transcoder
from paluku.streaming.ports import Conditions
from paluku.units import MS_PER_S

log = logger(__name__)

CLIENT_LEFT = Ending.of(CloseCode.GOING_AWAY, "client_left", "the client left before its session ended")
CLIENT_LOST = Ending.of(CloseCode.GOING_AWAY, "client_lost", "the socket was lost; the client may resume")
# How a client closes that does not mean to come back.
_FAREWELLS = (CloseCode.DONE, CloseCode.GOING_AWAY)
# A fault of ours: what the client can do about it is to connect again.
FAULT = Ending.of(CloseCode.STAGE_LOST, "internal_error", "the server failed; connect again")
BYTES_PER_SAMPLE = 2


class Connection:
    """A client's socket and its place in the protocol, until it streams."""

    def __init__(self, socket: WebSocket, service: Service, gate: Gate | None = None) -> None:
        self._socket = socket
        self._service = service
        self._gate = gate
        self._protocol = ServerSide()

    async def run(self) -> None:
        """Serve the client until it leaves or its session ends.

        A session whose socket was lost stays with the service, to be resumed; any other is over afterwards.
        """
        if self._gate is not None:
            try:
                self._gate.knock(self._socket.headers)
            except Refused as refused:
                self._service.ended(refused.ending)
                return await deny(self._socket, refused)
        await self._socket.accept()
        try:
            ending = await self._serve()
        except WebSocketDisconnect:
            ending = CLIENT_LEFT
        self._service.ended(ending)
        return await self._close(ending)

    async def _serve(self) -> Ending:
        try:
            hello = await self._hello()
            with self._admitted(hello) as admission:
                return await self._seated(hello, admission)
        except ViolationError as error:
            return Ending.of_violation(error)
        except Refused as refused:
            return refused.ending
        except UnknownTokenError as error:
            return Ending.of(CloseCode.POLICY, "unknown_token", str(error))
        except AudioError as error:
            return Ending.of(CloseCode.PROTOCOL_ERROR, "no_opus", str(error))
        except SeatsExhausted as error:
            return Ending.of(CloseCode.TRY_AGAIN, "no_seat", str(error), error.retry_s)
        except StageLostError as error:
            return Ending.of(CloseCode.STAGE_LOST, "stage_lost", str(error))

    async def _hello(self) -> Hello:
        try:
            async with asyncio.timeout(self._service.config.hello_timeout_s):
                hello = self._protocol.receive(await _bytes(self._socket))
        except TimeoutError:
            raise ViolationError("no_hello", "no Hello came in time", CloseCode.POLICY) from None
        assert isinstance(hello, Hello), f"the protocol let {type(hello).__name__} come first"
        return hello

    def _admitted(self, hello: Hello) -> AbstractContextManager[Pass | None]:
        if self._gate is None:
            return nullcontext()
        host = self._socket.client.host if self._socket.client else ""
        return self._gate.admit(self._socket.headers, host, hello.key, resumes=hello.resume is not None)

    async def _seated(self, hello: Hello, admission: Pass | None) -> Ending:
        transcoder = Transcoder(hello.encoding, hello.sample_rate_hz, self._service.card.sample_rate_hz)
        frame_samples = transcoder.frame_samples(self._service.card.frame_samples)
        resume = Resume(hello.resume.token, hello.resume.next_reply) if hello.resume else None
        async with self._service.attached(_conditions(hello), resume) as session:
            if admission is not None:
                # The session may wait for its client to come back: its place is then as taken as its seat.
                session.on_closed = admission.hand_over()
            has_token = resume is not None
            try:
                session.turn_taking = hello.turn_taking
                if not has_token:
                    await self._service.make_resumable(session)
                warm_up = int(transcoder.keeps_state and session.next_frame > 0)
                ready = self._ready(hello, session, frame_samples, warm_up)
                talk = Talk(
                    self._socket, self._protocol, self._service, session, transcoder, admission, warm_up
                )
                await talk.say(ready)
                has_token = True
                return await talk.run()
            finally:
                if not has_token:
                    session.cut_off(CLIENT_LEFT)  # nobody could resume it

    def _ready(self, hello: Hello, session: Session, frame_samples: int, warm_up: int) -> Ready:
        card, service = self._service.card, self._service
        return Ready(
            session_id=session.session_id,
            resume_token=session.token,
            grace_s=service.config.grace_s,
            sample_rate_hz=hello.sample_rate_hz,
            frame_samples=frame_samples,
            frame_ms=service.tick_s * MS_PER_S,
            acoustic_delay_frames=card.acoustic_delay_frames,
            next_frame=session.next_frame - warm_up,
            next_reply=hello.resume.next_reply if hello.resume else 0,
            tick_in_ms=max(0.0, service.next_tick_s - service.clock.now()) * MS_PER_S,
            lead_ms=service.config.align.initial_lead_ms,
            capabilities=self._protocol.capabilities,
            server=f"paluku/{importlib.metadata.version('paluku')}",
        )

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


class Talk:
    """A seated client: its sound to the session, the session's events to it, both at once."""

    def __init__(
        self,
        socket: WebSocket,
        protocol: ServerSide,
        service: Service,
        session: Session,
        transcoder: Transcoder,
        admission: Pass | None,
        warm_up_frames: int,
    ) -> None:
        self._socket = socket
        self._protocol = protocol
        self._service = service
        self._session = session
        self._transcoder = transcoder
        self._admission = admission
        self._deadline_s = admission.deadline_s if admission else math.inf
        # Sound from before the resumed frame, from which the decoder and the resampler take their state.
        self._to_skip = warm_up_frames * service.card.frame_samples * BYTES_PER_SAMPLE
        self._lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()

    async def run(self) -> Ending:
        """Read and write until all is sent that was said before the end, or the socket is lost."""
        session = self._session
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(ends_on_fault(session))
        writing = asyncio.create_task(self._write())
        watching = asyncio.create_task(self._watch())
        waits = [asyncio.create_task(event.wait()) for event in (session.cut, self._lost)]
        tasks: list[asyncio.Task[Any]] = [writing, *waits, reading, watching]
        try:
            # Reading may be over before: what came before a violation is answered first.
            await asyncio.wait(tasks[:-2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for task, result in zip(tasks, results, strict=True):
            # A write to a socket that is gone: the reader's business, and its faults have ended the session.
            if task is reading or isinstance(result, WebSocketDisconnect):
                continue
            if isinstance(result, Exception):
                raise result
        return session.ending or CLIENT_LOST

    async def say(self, message: ServerMessage) -> None:
        """Send a message, if the client asked for such."""
        if (data := self._protocol.send(message)) is not None:
            await self._socket.send_bytes(data)

    async def _read(self) -> None:
        session = self._session
        try:
            while True:
                data = await _bytes(self._socket)
                now_s = self._service.clock.now()
                self._heard_s = self._loop.time()
                if now_s >= self._deadline_s:
                    session.end(TOO_LONG)
                if self._admission is not None:
                    self._admission.message(len(data), now_s)
                self._obey(self._protocol.receive(data), now_s)
        except ViolationError as error:
            session.end(Ending.of_violation(error))
        except WebSocketDisconnect as error:
            if error.code in _FAREWELLS:
                session.cut_off(CLIENT_LEFT)
            self._lost.set()

    async def _watch(self) -> None:
        """End the session of a client that says nothing: one timer, not one for each message."""
        idle_s = self._service.config.idle_timeout_s
        while (silent_s := self._loop.time() - self._heard_s) < idle_s:
            await asyncio.sleep(idle_s - silent_s)
        self._session.end(Ending.of(CloseCode.POLICY, "idle", "no message came for too long; connect again"))

    def _obey(self, message: ClientMessage, now_s: float) -> None:
        session = self._session
        match message:
            case messages.UserAudio():
                self._hear(message.sound, now_s)
            case messages.End():
                session.drain(now_s)
            case messages.Played():
                session.played(message.frame)
            case messages.Mark():
                session.mark(message.label)
            case messages.Adjust():
                said = message.model_dump(exclude_none=True)
                session.adjust(Conditions(**{**session.conditions.model_dump(), **said}))
            case messages.Interrupt():
                session.interrupt()
            case messages.Forget():
                session.forget()
            case _:
                raise AssertionError(f"the protocol let {type(message).__name__} pass")

    def _hear(self, sound: bytes, now_s: float) -> None:
        pcm = self._transcoder.incoming(sound)
        if self._admission is not None:
            seconds = len(pcm) / BYTES_PER_SAMPLE / self._service.card.sample_rate_hz
            self._admission.sound(seconds, now_s)
        skipped = min(self._to_skip, len(pcm))
        self._to_skip -= skipped
        self._session.hear(pcm[skipped:], now_s)

    async def _write(self) -> None:
        while not isinstance(event := await self._session.outbox.get(), Ending):
            for message in self._told(event):
                await self.say(message)

    def _told(self, event: Event) -> Iterator[ServerMessage]:
        """A session's event in this protocol's words."""
        match event:
            case events.ReplyFrame(number, pcm, present, is_audible, text, arrived_s):
                sound = self._transcoder.outgoing(pcm)
                spent_ms = (self._service.clock.now() - arrived_s) * MS_PER_S
                yield messages.ReplyAudio(number, present, is_audible, spent_ms, sound)
                if text:
                    yield messages.Text(number, text)
            case events.UserText(number, text):
                yield messages.UserText(number, text)
            case events.UserSpeech(started, frame):
                yield messages.Turn("user", "started" if started else "stopped", frame)
            case events.ReplySpeech(started, frame):
                yield messages.Turn("reply", "started" if started else "stopped", frame)
            case events.Interrupted(frame):
                yield messages.Interrupted(frame)
            case events.Align(shift_ms):
                yield messages.Align(shift_ms)
            case events.Marked(label, frame):
                yield messages.Marked(frame, label)
            case events.Report():
                yield messages.Stats(**event._asdict())
            case _:
                raise AssertionError(f"a session said {type(event).__name__}")


def ends_on_fault(session: Session) -> Callable[["asyncio.Task[None]"], None]:
    """What to do when a session's reader is done: if a fault of ours ended it, nobody hears the client."""

    def done(reading: "asyncio.Task[None]") -> None:
        failed = None if reading.cancelled() else reading.exception()
        if failed is not None:
            named = {"session": session.session_id}
            log.error("its reader failed: %s", fault(failed), extra=named)
            session.end(FAULT)

    return done


async def _bytes(socket: WebSocket) -> bytes:
    """The next message. Raises WebSocketDisconnect, and ViolationError when it is text."""
    event = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1005))
    data = event.get("bytes")
    if data is None:
        raise ViolationError(
            "not_binary", "a text message came; this protocol is binary", CloseCode.NOT_BINARY
        )
    return data


def _conditions(hello: Hello) -> Conditions:
    asked = {name: getattr(hello, name) for name in ("voice", "style", "seed", "temperature", "top_k")}
    return Conditions(**{name: value for name, value in asked.items() if value is not None})
