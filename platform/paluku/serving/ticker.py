"""The clock: every 40 ms one frame of each session sets out, and what comes back is answered."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from paluku.log import fault, logger
from paluku.serving.config import ServingConfig
from paluku.serving.lane import Answer, Lane, Row
from paluku.serving.mover import Mover
from paluku.serving.ports import StageLostError
from paluku.serving.session import Session
from paluku.streaming.clock import Clock
from paluku.streaming.frames import Frame
from paluku.streaming.metrics import TickMetrics
from paluku.streaming.vad import VadWorker

log = logger(__name__)

# One tick to be taken by, one to be answered in.
LATE_TICKS = 2


class _Step(NamedTuple):
    """A batch under way: whose frames it holds, and when it set out."""

    sessions: list[Session]
    frames: list[Frame]
    lane: Lane
    started_s: float


class Ticker:
    """Steps the sessions of one ingress; `sessions` is its live register."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        mover: Mover,
        vad: VadWorker | None,
        tick_s: float,
        config: ServingConfig,
        clock: Clock,
        metrics: TickMetrics,
    ) -> None:
        self._sessions = sessions
        self._mover = mover
        self._vad = vad
        self._tick_s = tick_s
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._broken: Exception | None = None
        self._per_second = round(1 / tick_s)
        self._numbers = (-1, 0.0, 0.0)  # the second they are of, and the tick's p50 and p99 then
        self.next_s = clock.now() + tick_s  # the instant of the next tick

    async def run(self) -> None:
        """Tick for ever, on a grid that is kept whatever holds a tick up."""
        while True:
            await self._clock.sleep_until(self.next_s)
            if self._broken is not None:
                raise self._broken
            due_s = self.next_s
            self.next_s += self._tick_s
            self.tick(due_s)
            if (behind := int((self._clock.now() - self.next_s) / self._tick_s)) > 0:
                # Ticks that were slept through are not made up one by one: catching up does it.
                self._metrics.counts["ticks_missed"] += behind
                self.next_s += behind * self._tick_s

    def tick(self, due_s: float) -> None:
        """Send one frame of each session that has one on its way; never waits."""
        ready = [session for session in self._sessions.values() if session.can_step]
        stepped = self._set_out(ready, due_s)
        # Catch-up: whoever still holds a whole frame is stepped once more, else one stall would make
        # a session late for good.
        for _ in range(self._config.catch_up):
            stepped = self._set_out([s for s in stepped if s.holds_frame], None)
            self._metrics.counts["frames_caught_up"] += len(stepped)
        for session in list(self._sessions.values()):
            if session.is_drained and session.ending is None and session.left_s is None:
                self._report(session)
                session.end_well()

    def _set_out(self, sessions: list[Session], due_s: float | None) -> list[Session]:
        by_lane: dict[Lane, list[Session]] = defaultdict(list)
        for session in sessions:
            assert session.seating is not None, "a session that can step has a seat"
            by_lane[session.seating.lane].append(session)
        taken: dict[str, np.ndarray] = {}
        stepped: list[Session] = []
        for lane, group in by_lane.items():
            if lane.lost is not None:
                continue
            if not lane.has_room:
                self._metrics.counts["ticks_busy"] += any(session.holds_frame for session in group)
                continue
            stepped += self._send(lane, group, due_s, taken)
        if self._vad is not None and taken:
            heard = self._vad.submit(taken)
            for session in stepped:
                if session.session_id in taken:
                    session.listen(heard)
        return stepped

    def _send(
        self, lane: Lane, sessions: list[Session], due_s: float | None, taken: dict[str, np.ndarray]
    ) -> list[Session]:
        now_s = self._clock.now()
        step = _Step([], [], lane, now_s)
        rows: list[Row] = []
        for session in sessions:
            frame = session.next_frame_at(now_s)
            if frame is None:
                continue
            if due_s is not None and not session.holds_frame:
                session.align(due_s - frame.arrived_s, now_s)
            step.sessions.append(session)
            step.frames.append(frame)
            assert session.seating is not None, "a session that can step has a seat"
            rows.append(Row(session.seating.leases, frame.number, frame.pcm))
            if session.listens:
                taken[session.session_id] = frame.pcm
        if rows:
            self._metrics.counts["frames_in"] += len(rows)
            lane.step(rows).add_done_callback(lambda done: self._guarded(step, done))
        return step.sessions

    def _guarded(self, step: _Step, done: "asyncio.Future[list[Answer]]") -> None:
        """A mistake of ours in a callback must not pass unseen: the clock stops, which is noticed."""
        try:
            self._landed(step, done)
        except Exception as error:  # noqa: BLE001 (it is raised by `run`)
            log.error("a batch could not be answered: %s", fault(error))  # noqa: TRY400 (not its words)
            self._broken = error

    def _landed(self, step: _Step, done: "asyncio.Future[list[Answer]]") -> None:
        if done.cancelled():
            return
        if isinstance(error := done.exception(), StageLostError):
            self._metrics.counts["batches_lost"] += 1
            for session, frame in zip(step.sessions, step.frames, strict=True):
                session.fail(frame)
        else:
            self._answer(step, done.result())
        for session in step.sessions:
            if session.needs_attention:
                self._mover.attend(session)
        if error is not None:
            # Not only the batch's: the replica held every session of the lane.
            for session in self._sessions.values():
                self._mover.attend(session)

    def _answer(self, step: _Step, answers: list[Answer]) -> None:
        self._metrics.ticked(step.started_s)
        now_s = self._clock.now()
        for session, frame, answer in zip(step.sessions, step.frames, answers, strict=True):
            is_late = now_s - frame.arrived_s > LATE_TICKS * self._tick_s
            if session.answer(frame, answer, is_late):
                self._metrics.counts["frames_out"] += 1
                self._metrics.counts["frames_late"] += is_late
                self._metrics.answered(now_s - frame.arrived_s)
                if session.frames_out % self._per_second == 0:
                    self._report(session)

    def _report(self, session: Session) -> None:
        """Once a second for each session; percentiles of a minute of ticks are not worth more than that."""
        if (second := self._metrics.counts["ticks"] // self._per_second) != self._numbers[0]:
            self._numbers = (second, self._metrics.tick_ms(50) or 0.0, self._metrics.tick_ms(99) or 0.0)
        session.report(*self._numbers[1:])
