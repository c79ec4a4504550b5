"""Sessions between two seats: away from a replica that leaves or is lost, to a newer model, in place.

A seat that still works is left only when the new one has lived through everything (make before break):
the session never stops ticking but for the moment in which no frame is under way. A seat that is lost
is replaced from memory, and the frames that set out in vain are stepped again: sampling is a function
of seed, position and input, so they say the same.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from paluku.log import fault, logger
from paluku.protocol.messages import CloseCode
from paluku.serving.calls import alone, call
from paluku.serving.config import ServingConfig
from paluku.serving.events import Ending
from paluku.serving.ports import (
    LaneCard,
    LeasedBatch,
    Replica,
    RowStatus,
    StageLostError,
)
from paluku.serving.seating import NO_SEAT, Seating, Seats
from paluku.serving.session import Session
from paluku.streaming.clock import Clock
from paluku.streaming.metrics import TickMetrics
from paluku.streaming.ports import FIRST_CODE, Conditions, History
from paluku.tokens.text import PAD

log = logger(__name__)

# How soon to try again when no seat is free for a session that has to move.
RETRY_S = 0.1
# A session leaves working seats only while fewer than these are on the move: each takes time from all.
GENTLE_MOVES = 2
# How long a session that speaks can be without a frame coming back: two ticks of 40 ms.
LANDING_S = 0.08
# A new seat this close behind is brought level while the session pauses: about a tick's worth of calls.
CLOSE_FRAMES = 1


class Mover:
    """Moves sessions, each at most once at a time."""

    def __init__(
        self,
        seats: Seats,
        config: ServingConfig,
        clock: Clock,
        metrics: TickMetrics,
        newest: Callable[[], LaneCard],
    ) -> None:
        self._seats = seats
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._newest = newest
        self._moving: dict[Session, asyncio.Task[None]] = {}

    def is_moving(self, session: Session) -> bool:
        """Whether a move of it is under way."""
        return session in self._moving

    def attend(self, session: Session, staying: set[str] | None = None) -> None:
        """Begin the move that a session needs now, if it needs one; called often.

        `staying` are the replicas that may keep their sessions; without it nothing is said about that.
        """
        seating = session.seating
        if session.ending is not None or session.is_held or self.is_moving(session):
            return
        if seating is None or seating.lane.lost is not None or session.returned:
            self._begin(session, "crash", self._recover(session))
        elif session.needs_rebuild:
            self._begin(session, "barge_in" if session.is_interrupted else "forget", self._rebuild(session))
        elif len(self._moving) >= GENTLE_MOVES:
            return  # its seat still works: it can wait for its turn
        elif staying is not None and not staying.issuperset(seating.lane.key):
            card = self._newest() if self._is_outdated(seating.card) else seating.card
            self._begin(session, "drain", self._move(session, card))
        elif self._is_outdated(seating.card):
            self._begin(session, "reload", self._move(session, self._newest()))

    async def stop(self) -> None:
        """Give up what is under way."""
        tasks = list(self._moving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self, session: Session) -> None:
        """Return when no move of a session is under way; hold it before, or another may begin."""
        if (task := self._moving.get(session)) is not None:
            await asyncio.wait({task})

    def _is_outdated(self, card: LaneCard) -> bool:
        """Another model speaks the same codes: a session can go on with it in mid-sentence."""
        newest = self._newest()
        same = (newest.codec, newest.tokenizer) == (card.codec, card.tokenizer)
        return newest.bundle != card.bundle and same

    def _begin(self, session: Session, why: str, work) -> None:
        self._metrics.counts[f"moves_{why}"] += 1
        task = alone(work)
        self._moving[session] = task
        task.add_done_callback(lambda done: self._ended(session, why, done))

    def _ended(self, session: Session, why: str, done: "asyncio.Task[None]") -> None:
        del self._moving[session]
        if not done.cancelled() and (error := done.exception()) is not None:
            named = {"session": session.session_id}
            log.error("a %s move failed: %s", why, fault(error), extra=named)
            session.end(Ending.of(CloseCode.STAGE_LOST, "stage_lost", "the session could not be moved"))

    async def _recover(self, session: Session) -> None:
        """Its seats are gone: wait for others, live through the memory there, go on."""
        session.is_paused = True
        await session.idle()
        old, session.seating = session.seating, None
        if old is not None:
            if old.lane.lost is not None:
                self._seats.lost(old.lane)
            self._seats.close(old)
        assert session.card is not None, "a session that never had a seat"
        card = self._newest() if self._is_outdated(session.card) else session.card
        began_s = self._clock.now()
        while session.ending is None:
            conditions = session.conditions
            try:
                fresh = await self._seats.open(session.session_id, conditions, card, session.memory.history())
            except NO_SEAT as error:
                if self._clock.now() - began_s > self._config.recovery_s:
                    session.end(Ending.of(CloseCode.STAGE_LOST, "stage_lost", str(error)))
            else:
                self._seat(session, fresh, conditions)
                return
            await self._clock.sleep_until(self._clock.now() + RETRY_S)

    async def _rebuild(self, session: Session) -> None:
        """Its memory was cut or cleared: the same seats live through what is left of it."""
        session.is_paused = True
        await session.idle()
        seating = session.seating
        assert seating is not None, "a session without a seat is recovered, not rebuilt"
        session.cut_unheard(np.array([PAD, PAD, *seating.card.silence], np.int16))
        history, conditions = session.memory.history(), session.conditions
        session.rebuilt()
        session.seating = None  # should it fail, this is recovered from at the next attendance
        with suppress(*NO_SEAT):
            fresh = await self._seats.reopen(session.session_id, seating, conditions, history)
            self._seat(session, fresh, conditions)

    async def _move(self, session: Session, card: LaneCard) -> None:
        """Its seats still work: leave them when others have lived through as much."""
        old = session.seating
        assert old is not None, "a session without a seat is recovered, not moved"
        history, conditions = session.memory.history(), session.conditions
        try:
            fresh = await self._seats.open(session.session_id, conditions, card, history, old=old, keeps=True)
        except NO_SEAT:
            await self._clock.sleep_until(self._clock.now() + RETRY_S)
            return  # tried again at the next attendance
        try:
            level = await self._catch_up(session, old, fresh, history.end, CLOSE_FRAMES)
            await self._landing(session)
            session.is_paused = True
            await session.idle()
            await self._catch_up(session, old, fresh, level, 0)
        except NO_SEAT as error:  # the session stays where it was
            log.warning("a move was given up: %s", error, extra={"session": session.session_id})
            self._seats.close(fresh, kept=old)
            session.is_paused = False
            return
        self._seat(session, fresh, conditions)
        self._seats.close(old, kept=fresh)

    async def _landing(self, session: Session) -> None:
        """Wait for the moment to change seats in: a frame is back, the next sets out in most of a tick.

        A client that says nothing is not waited for.
        """
        patience_s = self._clock.now() + LANDING_S
        waits = [alone(session.landing()), alone(self._clock.sleep_until(patience_s))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _catch_up(self, session: Session, old: Seating, fresh: Seating, level: int, close: int) -> int:
        """Step the new seats through frames that were lived elsewhere meanwhile, each with its own input.

        What comes out was heard already.

        Raises:
            StageLostError: when a new seat is gone, or the memory no longer has the frames.
        """
        while session.memory.end - level > close:
            missed = session.memory.since(level)
            if missed.start != level or len(missed.user_pcm) < len(missed.reply):
                raise StageLostError("the new seats fell too far behind")
            stages = zip(self._seats.stage_names, fresh.lane.replicas, fresh.leases, strict=True)
            await asyncio.gather(
                *[
                    alone(self._step_through(replica, lease, _inputs(stage, missed), level))
                    for stage, replica, lease in stages
                    if lease not in old.leases
                ]
            )
            level = missed.end
        return level

    async def _step_through(self, replica: Replica, lease: int, inputs: np.ndarray, first_frame: int) -> None:
        for frame, payload in enumerate(inputs, first_frame):
            batch = LeasedBatch(np.array([lease]), np.array([frame]), payload[None])
            work = replica.step(batch)
            stepped = await call(f"replica {replica.replica_id}", work, self._config.step_timeout_s)
            if stepped.status[0] != RowStatus.STEPPED:
                raise StageLostError(f"a new seat did not take frame {frame}")

    def _seat(self, session: Session, seating: Seating, conditions: Conditions) -> None:
        """The session goes on from here; when it has ended meanwhile, its seats are given back."""
        if session.ending is not None:
            self._seats.close(seating)
            return
        session.sit(seating)
        # What it asked for meanwhile was told to the seats it had then.
        session.wants_adjusting |= session.conditions != conditions


def _inputs(stage: str, history: History) -> np.ndarray:
    """What a stage was given in the frames of a history, int16 `[F, ...]`."""
    match stage:
        case "converse":
            return history.user_codes
        case "decode":
            return np.ascontiguousarray(history.reply[:, FIRST_CODE:])
        case _:
            return history.user_pcm
