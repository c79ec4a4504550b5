"""A client's conversation: sound up, the reply and its events down, over as many connections as it takes.

A lost connection is resumed by itself: the session waits at the server, the sound it has not heard is
sent again, and nothing is said twice. docs/protocol.md is the prose.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
from websockets.exceptions import ConnectionClosed

from paluku.audio import to_pcm16
from paluku.client.alignment import Alignment, MicrophoneFramer
from paluku.client.link import Link, LostError, dial
from paluku.client.record import Record, Report, pooled_report
from paluku.client.upstream import Control, Sound, Upstream
from paluku.errors import PalukuError, SeatsExhausted, ServiceError
from paluku.protocol.messages import (
    CAPABILITIES,
    Adjust,
    Align,
    End,
    Forget,
    Hello,
    Interrupt,
    Interrupted,
    Mark,
    Marked,
    Played,
    ReplyAudio,
    ResumeRequest,
    ServerMessage,
    Stats,
    Text,
    UserText,
)
from paluku.units import MS_PER_S
from paluku.voices import StyleName, VoiceName

# A server that leaves sound unanswered for so long is gone, whatever its socket says.
SILENCE_TIMEOUT_S = 20.0
FIRST_PAUSE_S, MAX_PAUSE_S = 0.02, 1.0
# Reply frames between two Played: five a second tell the server what was heard to 200 ms.
PLAYED_EVERY_FRAMES = 5
# Events that wait for the caller; with more the connection is not read, and the server says slow_reader.
MAX_WAITING_EVENTS = 256

Dial = Callable[[Hello], Awaitable[Link]]


class Conversation:
    """A session. Either `speak` a wave; or `send` sound and iterate over the events, in two tasks."""

    def __init__(self, call: Dial, hello: Hello, link: Link, *, resumes: bool, records: bool) -> None:
        self._dial = call
        self._hello = hello
        self._link = link
        self._resumes = resumes
        self.ready = link.ready
        self.record = Record(records)
        self._upstream = Upstream(link.ready.frame_ms / MS_PER_S)
        self._framer = MicrophoneFramer(link.ready.frame_samples)
        self._alignment = self._aligned_by(link)
        self._is_in_phase = self._alignment is None
        self._wake = asyncio.Event()
        self._events: asyncio.Queue[ServerMessage | None] = asyncio.Queue(MAX_WAITING_EVENTS)
        self._fault: PalukuError | None = None
        self._has_ended = False

    # What the caller says.

    def send(self, pcm: np.ndarray | bytes) -> None:
        """Sound as a microphone gives it: int16 `[S]` or PCM16 at the client's rate, any length. Never waits.

        With alignment the caller's blocks decide how finely: 5 ms are good.
        """
        self._must_not_have_ended()
        if isinstance(pcm, bytes):
            pcm = np.frombuffer(pcm, "<i2")
        self._get_in_phase()
        self._put(self._framer.push(pcm))

    def end(self) -> None:
        """No more sound: a started frame is filled up; the iteration ends once everything is answered."""
        self._must_not_have_ended()
        self._put(self._framer.finish())
        self._control(End())
        self._has_ended = True

    def interrupt(self) -> None:
        """Stop the reply now."""
        self._control(Interrupt())

    def forget(self) -> None:
        """Clear the session's memory."""
        self._must_not_have_ended()
        self._control(Forget())

    def mark(self, label: str) -> None:
        """Marked comes back with this label once all sound before it is answered."""
        self._must_not_have_ended()
        self._control(Mark(label))

    def adjust(
        self,
        voice: VoiceName | None = None,
        style: StyleName | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
    ) -> None:
        """Another voice, style or sampling from the next frame on; what is not said stays."""
        self._must_not_have_ended()
        adjust = Adjust(voice=voice, style=style, temperature=temperature, top_k=top_k)
        self._hello = self._hello.model_copy(update=adjust.model_dump(exclude_none=True))
        self._control(adjust)

    def played(self, frame: int) -> None:
        """Reply frames up to and without this one were played. Said by itself as they come in."""
        self._control(Played(frame))

    def drop(self) -> None:
        """Lose the connection without a word, as a network does: for fault tests."""
        self._link.connection.transport.abort()

    # What the caller hears.

    async def __aiter__(self) -> AsyncIterator[ServerMessage]:
        """The events in order, sound decoded to PCM16; Ready is said again after each resume.

        Raises:
            ServiceError: when the server fails or is gone for good.
            SeatsExhausted: when it says when to come back.
            ProtocolError: when it breaks the protocol, or finds that we do.
        """
        while (event := await self._events.get()) is not None:
            yield event
        if self._fault is not None:
            raise self._fault

    async def speak(self, wave: np.ndarray, start_s: float | None = None) -> None:
        """Send float32 `[S]` at the client's rate in real time; return when all of the reply is here.

        The last frame is filled up with silence. The first begins at `start_s` of the monotonic clock, or
        as soon after as the alignment says.

        Raises:
            As iteration.
        """
        speaking = asyncio.create_task(self._pace(wave, time.monotonic() if start_s is None else start_s))
        try:
            async for _ in self:
                pass
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    @property
    def reply(self) -> np.ndarray:
        """The reply so far, int16 `[S]`; it begins with the user's first frame."""
        return self.record.reply

    @property
    def reaction_ms(self) -> np.ndarray:
        """How long each measured instant of the user's waited for a reply that could reflect it."""
        return self.record.reaction_ms(self.ready)

    @property
    def report(self) -> Report:
        """What was measured."""
        return self.record.report(self.ready)

    # What happens meanwhile.

    async def run(self) -> None:
        """Carry the conversation until it is over; `connect` starts this."""
        try:
            while not await self._live():
                await self._resume()
        except PalukuError as error:
            self._fault = error
        finally:
            await self._events.put(None)

    async def _live(self) -> bool:
        """Talk over the present connection; True when the session is done, False when it was lost."""
        talking = asyncio.create_task(self._talk(self._link))
        try:
            return await self._listen(self._link)
        except LostError:
            if not self._resumes:
                raise
            return False
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _talk(self, link: Link) -> None:
        while True:
            self._wake.clear()
            try:
                while (item := self._upstream.take()) is not None:
                    await link.connection.send(self._message(link, item))
            except ConnectionClosed:
                return  # the listener knows why
            await self._wake.wait()

    def _message(self, link: Link, item: Sound | Control) -> bytes:
        if not isinstance(item, Sound):
            return link.protocol.send(item)
        self.record.sent_s.setdefault(item.number, time.monotonic())
        return link.protocol.audio(link.encoder.encode(np.frombuffer(item.pcm, "<i2")))

    async def _listen(self, link: Link) -> bool:
        while True:
            try:
                async with asyncio.timeout(SILENCE_TIMEOUT_S):
                    message = await link.receive()
            except TimeoutError:
                if not self._upstream.is_waiting:
                    continue
                link.connection.transport.abort()
                raise LostError(f"the server said nothing for {SILENCE_TIMEOUT_S:g} s; see its log") from None
            if message is None:
                return True
            await self._events.put(self._heard(link, message))

    def _heard(self, link: Link, message: ServerMessage) -> ServerMessage:
        match message:
            case ReplyAudio():
                message = message._replace(sound=link.decoder.decode(message.sound).tobytes())
                self.record.replied(message.seq, message.sound, message.spent_ms, time.monotonic())
                self._upstream.replied = message.seq + 1
                if message.seq % PLAYED_EVERY_FRAMES == 0:
                    self._control(Played(message.seq + 1))
                self._wake.set()  # the window has moved
            case Text():
                self.record.said(message.text)
            case UserText():
                self.record.understood(message.text)
            case Interrupted():
                self.record.interrupted()
            case Marked():
                self._upstream.marked(message.label)
            case Stats():
                self.record.stats = message
            case Align() if self._alignment is not None:
                self._alignment.shift(message.shift_ms)
                self._framer.correct(round(message.shift_ms * self.ready.sample_rate_hz / MS_PER_S))
            case _:
                pass
        return message

    async def _resume(self) -> None:
        """Another connection for the same session.

        Raises:
            ServiceError: when there is none within the server's grace, or the session is gone.
        """
        deadline_s, pause_s = time.monotonic() + self.ready.grace_s, FIRST_PAUSE_S
        await self._link.connection.close()
        request = ResumeRequest(token=self.ready.resume_token, next_reply=self.record.next_reply)
        hello = self._hello.model_copy(update={"resume": request})
        while True:
            try:
                link = await self._dial(hello)
                break
            except (LostError, SeatsExhausted) as error:
                if time.monotonic() + pause_s > deadline_s:
                    raise ServiceError(f"the session was lost and could not be resumed: {error}") from error
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        try:
            self._upstream.resumed(link.ready.next_frame, link.ready.next_reply)
        except ServiceError:
            await link.connection.close()  # the seat is free at once
            raise
        self.record.resumed()
        self._link, self.ready = link, link.ready
        self._alignment = self._aligned_by(link)
        self._is_in_phase = self._alignment is None
        await self._events.put(link.ready)

    async def close(self) -> None:
        """Leave: the seat is free at once, whether the session was done or not."""
        await self._link.connection.close()

    # When sound is sent.

    def _aligned_by(self, link: Link) -> Alignment | None:
        if "align" not in link.ready.capabilities:
            return None
        return Alignment(link.ready, link.received_s, link.round_trip_s)

    def _get_in_phase(self) -> None:
        """A microphone's next frame is to be full at a good instant: it gets silence or loses a little."""
        if self._is_in_phase or self._alignment is None:
            return
        rate_hz = self.ready.sample_rate_hz
        full_s = time.monotonic() + self._framer.missing_samples / rate_hz
        self._framer.correct(round(self._alignment.nearest_s(full_s) * rate_hz))
        self._is_in_phase = True

    async def _pace(self, wave: np.ndarray, start_s: float) -> None:
        frame_s = self.ready.frame_ms / MS_PER_S
        due_s = start_s + frame_s
        if self._alignment is not None:
            due_s += self._alignment.wait_s(due_s)
        self._is_in_phase = True  # the framer has nothing to correct: whole frames come at their instants
        for pcm in _frames(wave, self.ready.frame_samples):
            if self._alignment is not None:
                due_s += self._alignment.nearest_s(due_s)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self.record.late_s.append(time.monotonic() - due_s)
            self._put([pcm], due_s)
            due_s += frame_s
        self._control(End())
        self._has_ended = True

    def _put(self, frames: Sequence[np.ndarray], full_s: float | None = None) -> None:
        for pcm in frames:
            number = self._upstream.put(pcm.astype("<i2", copy=False).tobytes())
            self.record.full_s[number] = time.monotonic() if full_s is None else full_s
        self._wake.set()

    def _control(self, message: Control) -> None:
        self._upstream.control(message)
        self._wake.set()

    def _must_not_have_ended(self) -> None:
        if self._has_ended:
            raise RuntimeError("the conversation has ended; nothing more can be said")


def pooled(talks: Sequence[Conversation]) -> Report:
    """One report over several sessions: the first one's words, the last one's ticks, everybody's latency."""
    return pooled_report([talk.record for talk in talks], [talk.ready for talk in talks])


@asynccontextmanager
async def connect(
    url: str,
    hello: Hello,
    *,
    key: str | None = None,
    aligns: bool = True,
    resumes: bool = True,
    records: bool = True,
) -> AsyncIterator[Conversation]:
    """A seated session, for the length of the block. `hello` without capabilities asks for all of them.

    `aligns`: frames start so that they arrive shortly before the server's tick. `resumes`: a lost
    connection is replaced. `records`: the reply and its transcript are kept.

    Raises:
        ServiceError: when nothing answers at `url`, or the server refuses.
        SeatsExhausted: when it has no free seat.
        ProtocolError: when it does not speak the protocol, or does not take this sound.
    """
    names = hello.capabilities or tuple(name for name in CAPABILITIES if aligns or name != "align")
    hello = hello.model_copy(update={"capabilities": names})

    async def call(asked: Hello) -> Link:
        return await dial(url, asked, key)

    talk = Conversation(call, hello, await call(hello), resumes=resumes, records=records)
    running = asyncio.create_task(talk.run())
    try:
        yield talk
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await talk.close()


def _frames(wave: np.ndarray, frame_samples: int) -> Iterator[np.ndarray]:
    """Whole frames of int16, the last one filled up with silence."""
    pcm = to_pcm16(wave)
    pcm = np.pad(pcm, (0, -len(pcm) % frame_samples))
    for start in range(0, len(pcm), frame_samples):
        yield pcm[start : start + frame_samples]
