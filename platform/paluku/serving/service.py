"""The service: one clock, the lanes, and who is seated on them. It knows no sockets and no Ray."""

import asyncio
import contextvars
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from paluku.protocol.messages import CloseCode, Ready
from paluku.serving.config import ServingConfig
from paluku.serving.lane import Lane
from paluku.serving.ports import AsyncStage, LaneCard, StageLostError
from paluku.serving.session import Ending, Session
from paluku.streaming.clock import Clock
from paluku.streaming.engine import Reply, to_batch
from paluku.streaming.frames import Frame, FrameBuffer
from paluku.streaming.metrics import TickMetrics
from paluku.streaming.ports import Conditions
from paluku.tokens.text import CharTokenizer, TextStream
from paluku.units import MS_PER_S

COUNTS = (
    "sessions_opened",
    "ticks",  # batches that came through all three stages
    "ticks_missed",  # the clock was held up for longer than a tick
    "ticks_busy",  # the stages were behind: frames waited for the next tick
    "frames_in",
    "frames_out",
    "frames_late",  # answered more than LATE_TICKS after they had come, whatever held them up
    "frames_caught_up",
    "batches_lost",  # a stage failed, hung or went away
)


# One tick to be taken by, one to be answered in.
LATE_TICKS = 2


class _Step(NamedTuple):
    """A batch under way: whose frames it holds, and when it set out."""

    sessions: list[Session]
    frames: list[Frame]
    started_s: float


class Service:
    """Seats sessions on lanes and steps them all once a tick."""

    def __init__(
        self,
        stages: Sequence[AsyncStage],
        card: LaneCard,
        config: ServingConfig,
        clock: Clock,
    ) -> None:
        self.card = card
        self.config = config
        self.clock = clock
        self.metrics = TickMetrics(clock)
        self.endings: Counter[str] = Counter()
        self.tick_s = card.frame_samples / card.sample_rate_hz
        self._tokenizer = CharTokenizer.from_json(card.tokenizer)
        self._lane = Lane(
            stages,
            card.num_seats,
            max_in_flight=config.max_in_flight,
            step_timeout_s=config.step_timeout_s,
            open_timeout_s=config.open_timeout_s,
            retry_s=config.retry_s,
        )
        self._sessions: dict[int, Session] = {}
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the lane and the clock, in a running event loop."""
        self._lane.start()
        # An empty context, for the reason given in Lane.start.
        self._ticking = asyncio.create_task(self._run(), name="tick", context=contextvars.Context())

    async def stop(self) -> None:
        """End every session, then stop."""
        for session in self._sessions.values():
            session.end(Ending.of(CloseCode.RESTARTING, "restarting", "the server stops; connect again"))
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            self._ticking = None
        await self._lane.stop()

    @property
    def is_running(self) -> bool:
        """Whether the clock ticks and the lane's workers work."""
        return self._ticking is not None and not self._ticking.done() and self._lane.is_running

    @asynccontextmanager
    async def seated(self, conditions: Conditions) -> AsyncIterator[Session]:
        """A session on a seat of its own, for the length of the block.

        Raises:
            SeatsExhausted: when no seat is free.
            StageLostError: when the seat cannot be opened.
        """
        seat = self._lane.lease()
        try:
            await self._lane.open(seat, conditions)
            frames = FrameBuffer(self.card.frame_samples, self.config.max_waiting_frames)
            session = Session(
                secrets.token_hex(8),
                seat,
                frames,
                TextStream(self._tokenizer),
                self.config.max_waiting_messages,
            )
            self._sessions[seat] = session
            self.metrics.counts["sessions_opened"] += 1
            yield session
        finally:
            self._sessions.pop(seat, None)
            self._lane.retire(seat)

    def ready(self, session: Session) -> Ready:
        """What a seated client is told."""
        return Ready(
            session_id=session.session_id,
            sample_rate_hz=self.card.sample_rate_hz,
            frame_samples=self.card.frame_samples,
            frame_ms=self.tick_s * MS_PER_S,
            acoustic_delay_frames=self.card.acoustic_delay_frames,
        )

    def ended(self, ending: Ending) -> None:
        """Count how a connection ended, whether it had a seat or not."""
        self.endings[ending.code] += 1

    def stats(self) -> dict[str, Any]:
        """Numbers for `/stats`."""
        return {
            "sessions": len(self._sessions),
            "seats": self._lane.num_seats,
            "seats_used": self._lane.num_used,
            "tick_p50_ms": self.metrics.tick_ms(50),
            "tick_p99_ms": self.metrics.tick_ms(99),
            **{name: self.metrics.counts[name] for name in COUNTS},
            "endings": dict(self.endings),
        }

    async def _run(self) -> None:
        due_s = self.clock.now() + self.tick_s
        while True:
            await self.clock.sleep_until(due_s)
            self.tick()
            due_s += self.tick_s
            if (behind := int((self.clock.now() - due_s) / self.tick_s)) > 0:
                # Ticks that were slept through are not made up one by one: catching up does it.
                self.metrics.counts["ticks_missed"] += behind
                due_s += behind * self.tick_s

    def tick(self) -> None:
        """Send one frame of each session that has one on its way; never waits."""
        stepped = self._set_out(list(self._sessions.values()))
        # Catch-up: whoever still holds a whole frame is stepped once more, else one stall would make
        # a session late for good.
        self.metrics.counts["frames_caught_up"] += len(self._set_out(stepped))
        for session in self._sessions.values():
            if session.is_drained and session.ending is None:
                self._report(session)
                session.end_well()

    def _set_out(self, sessions: list[Session]) -> list[Session]:
        if not self._lane.has_room:
            self.metrics.counts["ticks_busy"] += any(session.holds_frame for session in sessions)
            return []
        taken = [(session, frame) for session in sessions if (frame := session.next_frame()) is not None]
        if not taken:
            return []
        step = _Step([s for s, _ in taken], [f for _, f in taken], self.clock.now())
        self.metrics.counts["frames_in"] += len(taken)
        done = self._lane.step(to_batch({session.seat: frame.pcm for session, frame in taken}))
        done.add_done_callback(lambda future: self._landed(step, future))
        return step.sessions

    def _landed(self, step: _Step, done: "asyncio.Future[list[Reply]]") -> None:
        if done.cancelled():
            return
        if isinstance(error := done.exception(), StageLostError):
            self.metrics.counts["batches_lost"] += 1
            # Not only the batch's: the stage held every session that was open when it was lost, and one
            # that is silent now would fail the batch it speaks in next.
            for session in self._sessions.values():
                session.end(Ending.of(CloseCode.STAGE_LOST, "stage_lost", str(error)))
            return
        self.metrics.ticked(step.started_s)
        now_s = self.clock.now()
        self.metrics.counts["frames_out"] += len(step.frames)
        for session, frame, reply in zip(step.sessions, step.frames, done.result(), strict=True):
            is_late = now_s - frame.arrived_s > LATE_TICKS * self.tick_s
            self.metrics.counts["frames_late"] += is_late
            session.answer(frame, reply, is_late)
            if session.frames_out % round(1 / self.tick_s) == 0:
                self._report(session)

    def _report(self, session: Session) -> None:
        session.report(self.metrics.tick_ms(50) or 0.0, self.metrics.tick_ms(99) or 0.0)
