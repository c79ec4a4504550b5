"""One paced session of the native protocol for load: a timer and a socket, no task and no queue.

A hundred of them at 25 frames a second must leave the machine to the servers they measure. A talker
speaks when its microphone would have filled a message, whatever the server does, and resumes by its
token when its socket is lost.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

import numpy as np

from paluku.client.alignment import Alignment
from paluku.client.tally import Tally
from paluku.client.websocket import ABNORMAL, Closed, Socket, connect
from paluku.config import Config
from paluku.errors import ProtocolError
from paluku.protocol.machine import ClientSide, State
from paluku.protocol.messages import (
    Align,
    CloseCode,
    End,
    Error,
    Hello,
    Ready,
    ReplyAudio,
    ResumeRequest,
    Stats,
    TurnTaking,
)
from paluku.units import MS_PER_S

FRAME_MS = 40
# Seating takes a few seconds at most, also where a replica has to be found for it.
SEATING_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0
# Between two tries to resume.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 0.5
# As client.upstream: frames that may be sent and not yet replied to.
WINDOW_FRAMES = 40
# How proxies and servers close under a session that lives on elsewhere; 0: nobody answered.
RESUMABLE_CODES = (
    0,
    ABNORMAL,
    CloseCode.GOING_AWAY,
    CloseCode.STAGE_LOST,
    CloseCode.RESTARTING,
    CloseCode.TRY_AGAIN,
)
HTTP_SERVER_ERRORS = range(500, 600)
# A frame's name is in its first two samples: who says it, and which of its frames it is.
NAME_FRAMES = 1 << 15

Sound = Callable[[int, int], bytes]  # session and frame number -> PCM16 of one frame


class LoadConfig(Config):
    """How the sessions speak."""

    sample_rate_hz: int = 16_000
    chunk_ms: Literal[20, 40] = 40  # of sound in a message
    aligned: bool = True  # follow the server's advice when to send
    turn_taking: TurnTaking = "semantic"
    seed: int = 0
    named: bool = False  # the sound names session and frame, and the replies must (stand-in stages)
    key: str = ""


class Talker:
    """One session, from Hello to its end, over as many sockets as it takes.

    The microphone goes on while there is no socket: what it gave meanwhile is sent after the resume.
    """

    def __init__(self, number: int, url: str, config: LoadConfig, sound: Sound, tally: Tally) -> None:
        assert 0 < number < NAME_FRAMES, f"session {number} has no name: 1 to {NAME_FRAMES - 1} have"
        self.number = number
        self.ready: Ready | None = None
        self.stats: Stats | None = None  # the server's last
        self.is_over = False
        self._url, self._config, self._sound, self._tally = url, config, sound, tally
        self._chunks = FRAME_MS // config.chunk_ms  # messages in a frame
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._times: dict[int, tuple[float, float]] = {}  # frame -> when due to be full, and when sent
        self._frame = self._chunk = 0  # what the microphone gives next
        self._cursor = self._partial = 0  # what is sent next
        self._next_reply = 0
        self._due_s = self._heard_s = self._longest_gap_s = 0.0
        self._is_ending = False
        self._dial()

    # Its life.

    async def begin(self, start_s: float) -> bool:
        """Ask for a seat, and speak from `start_s` of the monotonic clock on; False when there is none."""
        self._due_s, asked_s = start_s, time.monotonic()
        closed = await self._attempt()
        if closed is None:
            self._tally.counts["sessions_seated"] += 1
            return True
        self.is_over = True
        if closed.code in (CloseCode.TRY_AGAIN, HTTPStatus.SERVICE_UNAVAILABLE):
            self._tally.refused(time.monotonic() - asked_s)
        else:
            self._lost(self._why(closed))
        return False

    async def finish(self) -> None:
        """Say End, hear the rest, count what was never answered."""
        if self._resuming is not None and not self.is_over:
            await asyncio.wait([self._resuming])
        if not self.is_over:
            self._is_ending = True
            self._stop()
            self._chunk = 0  # a frame that is not full is not said
            self._pump()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_TIMEOUT_S):
                    await self._over.wait()
            if not self.is_over:
                self._lost("it did not end")
        self.leave()

    def leave(self) -> None:
        """Go; the seat is free at once."""
        self.is_over = True
        self._stop()
        if self._resuming is not None:
            self._resuming.cancel()
        self._socket.close()

    def drop(self) -> None:
        """Lose the network: the session has to resume."""
        self._socket.drop()

    def mark(self) -> None:
        """From here on the longest gap is looked for."""
        self._longest_gap_s = 0.0

    def gap_s(self, now_s: float) -> float:
        """The longest time between replies since `mark`, one that still goes on included."""
        return max(self._longest_gap_s, now_s - self._heard_s)

    @property
    def next_reply(self) -> int:
        """The reply frame that is due."""
        return self._next_reply

    # Its sockets.

    def _dial(self) -> None:
        self._error: Error | None = None
        self._seated: asyncio.Future[Closed | None] = self._loop.create_future()
        self._protocol = ClientSide(self._next_reply)
        self._socket = Socket(self._url, self._greet, self._hear, self._closed, self._config.key)

    async def _attempt(self) -> Closed | None:
        """None once the server has said Ready; else how it ended before."""
        try:
            async with asyncio.timeout(SEATING_TIMEOUT_S):
                await connect(self._socket, self._url)
                return await self._seated
        except OSError as error:  # TimeoutError is one
            self._socket.close()
            return Closed(0, type(error).__name__)

    def _greet(self) -> None:
        resume = None
        if self.ready is not None:
            resume = ResumeRequest(token=self.ready.resume_token, next_reply=self._next_reply)
        hello = Hello(
            sample_rate_hz=self._config.sample_rate_hz,
            seed=self._config.seed + self.number,
            turn_taking=self._config.turn_taking,
            capabilities=("stats", "align") if self._config.aligned else ("stats",),
            resume=resume,
        )
        self._socket.send(self._protocol.send(hello))

    def _closed(self, closed: Closed) -> None:
        self._stop()
        if not self._seated.done():
            self._seated.set_result(closed)
        elif self.is_over:
            pass
        elif self._is_ending and closed.code == CloseCode.DONE:
            self._finished()
        elif self._is_ending or not self._may_resume(closed):
            self._lost(self._why(closed))
        else:
            self._resuming = self._loop.create_task(self._resume())

    def _may_resume(self, closed: Closed, *, is_waiting: bool = False) -> bool:
        if self._error is not None:
            # A seat that cannot be had just now, while the session waits; one that ended so is gone.
            transient = ("restarting", "stage_lost") if is_waiting else ("restarting",)
            return self._error.code in transient or self._error.retry_s is not None
        return closed.code in RESUMABLE_CODES or closed.code in HTTP_SERVER_ERRORS

    def _why(self, closed: Closed) -> str:
        return f"{closed.code} {self._error.code if self._error else closed.reason}"

    async def _resume(self) -> None:
        assert self.ready is not None
        deadline_s, pause_s = time.monotonic() + self.ready.grace_s, FIRST_PAUSE_S
        while True:
            self._dial()
            closed = await self._attempt()
            if closed is None:
                self._tally.counts["resumes"] += 1
                return
            if not self._may_resume(closed, is_waiting=True) or time.monotonic() + pause_s > deadline_s:
                self._lost(f"not resumed: {self._why(closed)}")
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _finished(self) -> None:
        self._tally.counts["sessions_ended"] += 1
        self._account()

    def _lost(self, why: str) -> None:
        self._stop()
        self._tally.ended(why)
        self._account()

    def _account(self) -> None:
        self.is_over = True
        self._over.set()
        self._tally.counts["lost_frames"] += max(0, self._cursor - self._next_reply)

    # What it says.

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run_microphone(self) -> None:
        """A message's worth of sound is there."""
        self._tally.said(time.monotonic() - self._due_s)
        self._chunk += 1
        if self._chunk == self._chunks:
            self._times[self._frame] = (self._due_s, math.inf)
            self._frame, self._chunk = self._frame + 1, 0
        self._pump()
        self._due_s += self._config.chunk_ms / MS_PER_S
        if self._alignment is not None:
            self._due_s += self._alignment.nearest_s(self._due_s)
        self._timer = self._loop.call_at(self._due_s, self._run_microphone)

    def _pump(self) -> None:
        """Send what waits: after a resume a backlog, at the pace at which it is answered."""
        while self._cursor < self._frame and self._cursor - self._next_reply < WINDOW_FRAMES:
            self._send(self._chunks)
            due_s, _ = self._times.get(self._cursor, (math.inf, math.inf))
            self._times[self._cursor] = (due_s, time.monotonic())
            self._cursor, self._partial = self._cursor + 1, 0
        if self._cursor < self._frame:
            return
        if self._partial < self._chunk:
            self._send(self._chunk)
        if self._is_ending and self._protocol.state is State.STREAMING:
            self._socket.send(self._protocol.send(End()))

    def _send(self, end_chunk: int) -> None:
        pcm = self._sound(self.number, self._cursor)
        size = len(pcm) // self._chunks
        self._socket.send(self._protocol.audio(pcm[self._partial * size : end_chunk * size]))
        self._partial = end_chunk

    # What it hears.

    def _hear(self, data: bytes) -> None:
        try:
            message = self._protocol.receive(data)
        except ProtocolError as error:
            self._tally.counts["violations"] += 1
            self._lost(f"violation: {error}")
            self._socket.close()
            return
        match message:
            case ReplyAudio():
                self._replied(message)
                self._pump()
            case Align() if self._alignment is not None:
                self._alignment.shift(message.shift_ms)
            case Stats():
                self.stats = message
            case Ready():
                self._seat(message)
            case Error():
                self._error = message
            case _:
                pass

    def _seat(self, ready: Ready) -> None:
        now_s = time.monotonic()
        is_first = self.ready is None
        self.ready = ready
        self._cursor, self._partial = ready.next_frame, 0
        # On loopback a round trip is far below a millisecond; the server's shifts correct the rest.
        self._alignment = Alignment(ready, now_s, 0.0) if "align" in ready.capabilities else None
        if is_first:
            self._heard_s, self._due_s = now_s, max(self._due_s, now_s)
            if self._alignment is not None:
                self._due_s += self._alignment.wait_s(self._due_s)
        while self._due_s < now_s:  # a microphone does not wait for its socket
            self._times[self._frame] = (self._due_s, math.inf)
            self._frame += 1
            self._due_s += FRAME_MS / MS_PER_S
        self._chunk = 0
        self._timer = self._loop.call_at(self._due_s, self._run_microphone)
        self._seated.set_result(None)
        self._pump()

    def _replied(self, reply: ReplyAudio) -> None:
        assert self.ready is not None
        now_s = time.monotonic()
        self._longest_gap_s = max(self._longest_gap_s, now_s - self._heard_s)
        self._heard_s = now_s
        for lost in range(self._next_reply, reply.seq):
            self._tally.counts["lost_frames"] += 1
            self._times.pop(lost - self.ready.acoustic_delay_frames, None)
        self._next_reply = reply.seq + 1
        first = self._times.pop(reply.seq - self.ready.acoustic_delay_frames, None)
        sent = self._times.get(reply.seq)
        if sent is not None:
            wait_s = now_s - first[0] if first is not None else None
            self._tally.replied(now_s - sent[1], wait_s, self.ready.frame_ms / MS_PER_S)
        if self._config.named and reply.present:
            self._check(reply)

    def _check(self, reply: ReplyAudio) -> None:
        """A stand-in's reply names the frame it stems from: ours, one before it."""
        assert self.ready is not None
        session, frame = np.frombuffer(reply.sound, "<i2", count=2).tolist()
        if session != self.number:
            self._tally.counts["foreign_frames"] += 1
        elif frame != (reply.seq - self.ready.acoustic_delay_frames) % NAME_FRAMES:
            self._tally.counts["misplaced_frames"] += 1
