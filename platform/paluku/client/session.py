"""A client's session: speak a wave in real time, hear the reply, and measure.

The wave is cut into frames; frame `n` is sent when a microphone would have filled it, at
`start + (n + 1)` frames. The reply comes frame by frame and is kept in order.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidURI

from paluku.audio import to_pcm16
from paluku.client.latency import Latency, reaction_ms, summary
from paluku.config import Config
from paluku.errors import ProtocolError, SeatsExhausted, ServiceError
from paluku.protocol import native
from paluku.protocol.machine import ClientSide, State
from paluku.protocol.messages import (
    CloseCode,
    Error,
    Hello,
    Ready,
    ReplyAudio,
    ServerMessage,
    Stats,
    Text,
)
from paluku.units import MS_PER_S

CONNECT_TIMEOUT_S = 10.0
# Longer than any reply takes: a server this silent is gone.
SILENCE_TIMEOUT_S = 20.0


class Report(Config):
    """How a conversation went. Milliseconds; late frames are the server's count."""

    session_id: str
    frames_in: int
    frames_out: int
    late_frames: int
    reaction: Latency | None  # the user's instants to the reply that could reflect them
    server: Latency | None  # a frame's arrival at the server to its reply leaving it
    pacing_late_p99_ms: float  # this client's own lateness: what it adds to the numbers above
    tick_p50_ms: float
    tick_p99_ms: float
    transcript: str


class Conversation:
    """One session over an open connection. `speak` once; then `reply` and `report` hold the result."""

    def __init__(self, connection: ClientConnection, protocol: ClientSide, ready: Ready) -> None:
        self._connection = connection
        self._protocol = protocol
        self.ready = ready
        self._pcm: list[bytes] = []
        self._texts: list[str] = []
        self._stats: Stats | None = None
        self._full_s: dict[int, float] = {}
        self._late_s: list[float] = []
        self._arrived_s: dict[int, float] = {}
        self._spent_ms: list[float] = []

    async def speak(self, wave: np.ndarray, start_s: float | None = None) -> None:
        """Send float32 `[S]` at the server's rate in real time; return when all of the reply is here.

        The last frame is filled up with silence. The first begins at `start_s` of the monotonic clock.

        Raises:
            ServiceError: when the server fails or is gone.
            ProtocolError: when it breaks the protocol, or finds that we do.
        """
        listening = asyncio.create_task(self._listen())
        speaking = asyncio.create_task(self._send(wave, time.monotonic() if start_s is None else start_s))
        try:
            await asyncio.wait((listening, speaking), return_when=asyncio.FIRST_EXCEPTION)
            # A failed send says only that the connection is closed; the listener knows why.
            await listening
        finally:
            for task in (listening, speaking):
                task.cancel()
            await asyncio.gather(listening, speaking, return_exceptions=True)

    @property
    def reply(self) -> np.ndarray:
        """The reply so far, int16 `[S]`; it begins with the user's first frame."""
        return np.frombuffer(b"".join(self._pcm), "<i2")

    @property
    def spent_ms(self) -> np.ndarray:
        """What the server says it spent on each frame, from its arrival to its reply's leaving."""
        return np.array(self._spent_ms)

    @property
    def reaction_ms(self) -> np.ndarray:
        """How long each measured instant of the user's waited for a reply that could reflect it."""
        frame_s = self.ready.frame_ms / MS_PER_S
        return reaction_ms(self._full_s, self._arrived_s, frame_s, self.ready.acoustic_delay_frames)

    @property
    def report(self) -> Report:
        """What was measured."""
        return Report(
            session_id=self.ready.session_id,
            frames_in=len(self._full_s),
            frames_out=len(self._pcm),
            late_frames=self._stats.late_frames if self._stats else 0,
            reaction=summary(self.reaction_ms),
            server=summary(self.spent_ms),
            pacing_late_p99_ms=round(float(np.percentile(self._late_s or [0.0], 99)) * MS_PER_S, 2),
            tick_p50_ms=self._stats.tick_p50_ms if self._stats else 0.0,
            tick_p99_ms=self._stats.tick_p99_ms if self._stats else 0.0,
            transcript="".join(self._texts),
        )

    async def _send(self, wave: np.ndarray, start_s: float) -> None:
        frame_s = self.ready.frame_ms / MS_PER_S
        for number, pcm in enumerate(_frames(wave, self.ready.frame_samples)):
            due_s = start_s + (number + 1) * frame_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._full_s[number] = due_s
            self._late_s.append(time.monotonic() - due_s)
            await self._connection.send(self._protocol.audio(pcm))
        await self._connection.send(self._protocol.end())

    async def _listen(self) -> None:
        while (message := await _receive(self._connection, self._protocol)) is not None:
            match message:
                case ReplyAudio():
                    self._arrived_s[message.seq] = time.monotonic()
                    self._spent_ms.append(message.spent_ms)
                    self._pcm.append(message.pcm)
                case Text():
                    self._texts.append(message.text)
                case Stats():
                    self._stats = message
                case _:
                    raise AssertionError(f"the protocol let {type(message).__name__} pass")


def pooled(talks: Sequence[Conversation]) -> Report:
    """One report over several sessions: the first one's words, the last one's ticks, everybody's latency."""
    reports = [talk.report for talk in talks]
    sums = {
        name: sum(getattr(report, name) for report in reports)
        for name in ("frames_in", "frames_out", "late_frames")
    }
    return reports[0].model_copy(
        update={
            **sums,
            "reaction": summary(np.concatenate([talk.reaction_ms for talk in talks])),
            "server": summary(np.concatenate([talk.spent_ms for talk in talks])),
            "pacing_late_p99_ms": max(report.pacing_late_p99_ms for report in reports),
            "tick_p50_ms": reports[-1].tick_p50_ms,
            "tick_p99_ms": reports[-1].tick_p99_ms,
        }
    )


@asynccontextmanager
async def connected(url: str, hello: Hello) -> AsyncIterator[Conversation]:
    """A seated session, for the length of the block.

    Raises:
        ServiceError: when nothing answers at `url`, or the server refuses.
        SeatsExhausted: when it has no free seat.
        ProtocolError: when it does not speak the protocol, or takes another rate.
    """
    with _reachable(url):
        # Compression costs more time than it saves bytes of PCM.
        connection = await connect(url, open_timeout=CONNECT_TIMEOUT_S, compression=None)
    async with connection:
        protocol = ClientSide()
        with _reachable(url):
            await connection.send(native.encode(hello))
        ready = await _receive(connection, protocol)
        if not isinstance(ready, Ready):
            raise ServiceError(f"{url} closed the connection without a word; see its log")
        if ready.sample_rate_hz != hello.sample_rate_hz:
            raise ProtocolError(f"{url} works at {ready.sample_rate_hz} Hz, not {hello.sample_rate_hz} Hz")
        yield Conversation(connection, protocol, ready)


async def _receive(connection: ClientConnection, protocol: ClientSide) -> ServerMessage | None:
    """The next message; None once the server has closed the connection after a finished session."""
    try:
        async with asyncio.timeout(SILENCE_TIMEOUT_S):
            data = await connection.recv(decode=False)
    except TimeoutError as error:
        raise ServiceError(f"the server said nothing for {SILENCE_TIMEOUT_S:g} s; see its log") from error
    except ConnectionClosed as error:
        is_done = error.rcvd is not None and error.rcvd.code == CloseCode.DONE
        if is_done and protocol.state is State.ENDING:
            return None
        raise ServiceError(f"the server closed the connection ({error}); connect again") from error
    message = protocol.receive(data)
    if isinstance(message, Error):
        raise _refusal(message)
    return message


def _refusal(error: Error) -> ServiceError | SeatsExhausted:
    if error.retry_s is not None:
        return SeatsExhausted(f"the server refuses: {error.message}", error.retry_s)
    return ServiceError(f"the server ends the session ({error.code}): {error.message}")


@contextmanager
def _reachable(url: str) -> Iterator[None]:
    try:
        yield
    except InvalidURI as error:
        raise ServiceError(f"{url} is no WebSocket address; use ws://HOST:PORT/ws") from error
    except (OSError, TimeoutError, InvalidHandshake, InvalidMessage, ConnectionClosed) as error:
        raise ServiceError(f"{url} cannot be reached ({error}); is the server running?") from error


def _frames(wave: np.ndarray, frame_samples: int) -> Iterator[bytes]:
    """Whole frames of PCM16, the last one filled up with silence."""
    pcm = to_pcm16(wave)
    pcm = np.pad(pcm, (0, -len(pcm) % frame_samples))
    for start in range(0, len(pcm), frame_samples):
        yield pcm[start : start + frame_samples].astype("<i2").tobytes()
