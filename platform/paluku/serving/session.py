"""One client's session: what waits on its way in, what waits on its way out, and how it ends."""

import asyncio
from typing import NamedTuple

from paluku.protocol.messages import CloseCode, Error, ReplyAudio, ServerMessage, Stats, Text, ViolationError
from paluku.streaming.engine import Reply
from paluku.streaming.frames import Frame, FrameBuffer, FrameOverflowError
from paluku.tokens.text import TextStream
from paluku.units import MS_PER_S


class Ending(NamedTuple):
    """How a connection ends: a close code, and the error said before, if it is one."""

    close_code: CloseCode
    error: Error | None = None

    @property
    def code(self) -> str:
        """Its name, for the close frame and the statistics."""
        return self.error.code if self.error else "done"

    @staticmethod
    def of(close_code: CloseCode, code: str, message: str, retry_s: float | None = None) -> "Ending":
        """An ending with an error."""
        return Ending(close_code, Error(code=code, message=message, retry_s=retry_s))

    @staticmethod
    def of_violation(error: ViolationError) -> "Ending":
        """The client has broken the protocol."""
        return Ending.of(error.close_code, error.code, str(error))


class Outgoing(NamedTuple):
    """A reply frame in the outbox; what it took is known only when it is sent."""

    seq: int
    reply: Reply
    arrived_s: float

    def at(self, now_s: float) -> ReplyAudio:
        """The message, when it is sent at `now_s`."""
        spent_ms = (now_s - self.arrived_s) * MS_PER_S
        return ReplyAudio(self.seq, self.reply.present, spent_ms, self.reply.pcm.tobytes())


class Session:
    """State of one seated client. The connection fills `frames` and empties `outbox`; the tick does the rest.

    `ending` is decided once: the first one stays.
    """

    def __init__(
        self, session_id: str, seat: int, frames: FrameBuffer, transcript: TextStream, max_waiting: int
    ) -> None:
        self.session_id = session_id
        self.seat = seat
        self.outbox: asyncio.Queue[Outgoing | ServerMessage | Ending] = asyncio.Queue()  # bounded by _say
        self.cut = asyncio.Event()  # the session has ended, and the outbox with it
        self.ending: Ending | None = None
        self.frames_in = self.frames_out = self.late_frames = 0
        self._frames = frames
        self._transcript = transcript
        self._max_waiting = max_waiting
        self._stepping = 0
        self._is_draining = False

    def hear(self, pcm: bytes, now_s: float) -> None:
        """Sound from the client. More than may wait ends the session."""
        try:
            self.frames_in += self._frames.push(pcm, now_s)
        except FrameOverflowError as error:
            self.end(Ending.of(CloseCode.POLICY, "too_fast", str(error)))

    def drain(self, now_s: float) -> None:
        """No more sound will come: what has come is answered, then the session ends well."""
        try:
            self.frames_in += self._frames.finish(now_s)
        except FrameOverflowError as error:
            self.end(Ending.of(CloseCode.POLICY, "too_fast", str(error)))
        self._is_draining = True

    def next_frame(self) -> Frame | None:
        """The frame to step now. None when none is whole, or the session has ended."""
        frame = None if self.ending else self._frames.pop()
        self._stepping += frame is not None
        return frame

    @property
    def holds_frame(self) -> bool:
        """Whether another whole frame waits."""
        return self.ending is None and len(self._frames) > 0

    def answer(self, frame: Frame, reply: Reply, is_late: bool) -> None:
        """The reply to a frame that `next_frame` gave."""
        self._stepping -= 1
        self.frames_out += 1
        self.late_frames += is_late
        if text := self._transcript.feed(reply.text_token):
            self._say(Text(frame.number, text))
        self._say(Outgoing(frame.number, reply, frame.arrived_s))

    def report(self, tick_p50_ms: float, tick_p99_ms: float) -> None:
        """Tell the client how it goes."""
        self._say(
            Stats(
                frames_in=self.frames_in,
                frames_out=self.frames_out,
                late_frames=self.late_frames,
                tick_p50_ms=tick_p50_ms,
                tick_p99_ms=tick_p99_ms,
            )
        )

    @property
    def is_drained(self) -> bool:
        """Whether everything the client sent before End has been answered."""
        return self._is_draining and not self._frames and not self._stepping

    def end_well(self) -> None:
        """End a drained session."""
        if text := self._transcript.finish():
            self._say(Text(self.frames_out - 1, text))
        self.end(Ending(CloseCode.DONE))

    def end(self, ending: Ending) -> None:
        """End the session behind what waits in the outbox; only the first call counts."""
        if self.ending is None:
            self.ending = ending
            self.outbox.put_nowait(ending)

    def cut_off(self, ending: Ending) -> None:
        """End the session without what waits in the outbox: its reader is slow, or gone."""
        if self.ending is None:
            self.ending = ending
        self.cut.set()

    def _say(self, message: Outgoing | ServerMessage) -> None:
        if self.ending is not None:
            return
        if self.outbox.qsize() >= self._max_waiting:
            what = f"{self._max_waiting} messages wait for a client that does not read them"
            self.cut_off(Ending.of(CloseCode.POLICY, "slow_reader", what))
            return
        self.outbox.put_nowait(message)
