"""The service: one clock, the sessions and what keeps them seated. It knows no sockets and no Ray."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from paluku.errors import SeatsExhausted, ServiceError
from paluku.log import in_session, logger
from paluku.protocol.messages import CloseCode
from paluku.serving.bundles import Bundles
from paluku.serving.calls import alone
from paluku.serving.config import ServingConfig
from paluku.serving.events import Ending
from paluku.serving.keeper import Keeper, facts
from paluku.serving.mover import Mover
from paluku.serving.ports import Fleet, LaneCard, Member, Snapshots, StageLostError
from paluku.serving.pressure import PressureGauge
from paluku.serving.seating import Seating, Seats
from paluku.serving.session import Identity, Session, Transcripts, hash_token
from paluku.serving.ticker import Ticker
from paluku.streaming.alignment import Aligner
from paluku.streaming.clock import Clock
from paluku.streaming.frames import FrameBuffer
from paluku.streaming.memory import SessionMemory, Update
from paluku.streaming.metrics import TickMetrics
from paluku.streaming.ports import OUR_TEXT, USER_TEXT, Conditions
from paluku.streaming.turns import TurnTracker
from paluku.streaming.vad import VadWorker
from paluku.tokens.text import PAD, TextStream, TextTokenizer
from paluku.units import MS_PER_S

log = logger(__name__)

RESUMED = Ending.of(CloseCode.GOING_AWAY, "resumed", "the session went on over another connection")

COUNTS = (
    "sessions_opened",
    "ticks",  # batches that came through all stages
    "ticks_missed",  # the clock was held up for longer than a tick
    "ticks_busy",  # the stages were behind: frames waited for the next tick
    "frames_in",
    "frames_out",
    "frames_late",  # answered more than LATE_TICKS after they had come, whatever held them up
    "frames_caught_up",
    "frames_lost",  # heard and never answered: their session ended before
    "batches_lost",  # a stage failed, hung or went away under them; their frames are stepped again
    "resumes",
    "refused_seats",
    "refused_late",
)

# How often sessions that have to move are looked for: a tenth of the silence a crash may cost.
ATTEND_S = 0.05
MOVES = ("drain", "crash", "reload", "barge_in", "forget")

# The memories are copied in so many parts, one after another.
PUSH_SLICES = 2
FIND_STAGES_S = 120.0
# Sound kept to step a new encoder through, beyond what its state reaches back: what a client may be
# behind when it resumes, and what passes while a seat is primed.
SPARE_PCM_FRAMES = 100


class UnknownTokenError(ServiceError):
    """A resume token of no session that is kept here or elsewhere (any more)."""


class Resume(NamedTuple):
    """What a client that comes back says: its token, and the reply frame it wants next."""

    token: str
    next_reply: int


class Service:
    """Seats sessions on lanes and steps them all once a tick."""

    def __init__(
        self,
        fleets: Sequence[Fleet],
        snapshots: Snapshots | None,
        config: ServingConfig,
        clock: Clock,
        vad: Callable[[int], VadWorker] | None = None,
    ) -> None:
        self.name = secrets.token_hex(4)  # of this ingress, in its series and log lines
        self.config = config
        self.clock = clock
        self.metrics = TickMetrics(clock)
        self.endings: Counter[str] = Counter()
        self._fleets = fleets
        self._seats = Seats(fleets, config, clock, self.metrics)
        self._mover = Mover(self._seats, config, clock, self.metrics, lambda: self._bundles.newest)
        self._keeper = Keeper(snapshots, secrets.token_hex(8), config.open_timeout_s)
        self._make_vad = vad
        self._vad: VadWorker | None = None
        self._ticker: Ticker | None = None
        self._slice = 0
        self._reviving: dict[str, asyncio.Lock] = {}
        self._bundles = Bundles(fleets, config.open_timeout_s)
        self._sessions: dict[str, Session] = {}  # by the key of their token
        self._first_pushes: set[str] = set()  # under way: their keys
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def card(self) -> LaneCard:
        """What new sessions are seated on."""
        return self._bundles.newest

    @property
    def members(self) -> Mapping[str, Sequence[Member]]:
        """The replicas of each stage, as last heard of."""
        members = (fleet.members for fleet in self._fleets)
        return dict(zip(self._seats.stage_names, members, strict=True))

    @property
    def tick_s(self) -> float:
        """Seconds between ticks: a frame."""
        return self.card.frame_samples / self.card.sample_rate_hz

    @property
    def next_tick_s(self) -> float:
        """The instant of the next tick."""
        assert self._ticker is not None, "the service is not started"
        return self._ticker.next_s

    # Life.

    async def start(self) -> None:
        """Find the stages and start the clock, in the event loop that serves.

        Raises:
            ServiceError: when no stage of every kind answers in time, or they do not belong together.
        """
        for fleet in self._fleets:
            await fleet.start(PressureGauge(self.metrics))
        began_s = self.clock.now()
        while not await self._bundles.find():
            if self.clock.now() - began_s > FIND_STAGES_S:
                raise ServiceError(f"no complete set of stages answered within {FIND_STAGES_S:g} s")
            await self.clock.sleep_until(self.clock.now() + ATTEND_S)
        if self._make_vad is not None:
            self._vad = self._make_vad(self.card.sample_rate_hz)
        self._ticker = Ticker(
            self._sessions, self._mover, self._vad, self.tick_s, self.config, self.clock, self.metrics
        )
        self._tasks = [
            alone(self._ticker.run()),
            alone(self._every(ATTEND_S, self._attend)),
            alone(self._every(ATTEND_S, self._look_for_bundles)),
            alone(self._every(self.config.lease_s / 4, self._renew)),
            alone(self._every(self.config.snapshot_s / PUSH_SLICES, self._push_slice)),
        ]

    async def stop(self) -> None:
        """Copy every memory, so that clients can resume elsewhere; end every session; stop."""
        await self._push(list(self._sessions.values()))
        for session in self._sessions.values():
            session.end(Ending.of(CloseCode.RESTARTING, "restarting", "the server stops; connect again"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._mover.stop()
        await self._seats.stop()
        for fleet in self._fleets:
            await fleet.stop()
        if self._vad is not None:
            self._vad.close()

    @property
    def is_running(self) -> bool:
        """Whether the clock ticks and everything that attends to sessions is at work."""
        lanes = all(lane.is_running for lane in self._seats.lanes if lane.lost is None)
        return bool(self._tasks) and not any(task.done() for task in self._tasks) and lanes

    # Sessions.

    @asynccontextmanager
    async def attached(self, conditions: Conditions, resume: Resume | None = None) -> AsyncIterator[Session]:
        """A session with its client, for the length of the block: a new one, or one that goes on.

        Afterwards one with an ending is closed; one whose client vanished waits `grace_s` for it.

        Raises:
            SeatsExhausted: when no seat is free.
            StageLostError: when the seats cannot be opened.
            UnknownTokenError: when there is nothing to resume.
        """
        session = await self._revive(resume) if resume else await self._new(conditions)
        with in_session(session.session_id):
            log.info("a session %s", "goes on" if resume else "begins")
            try:
                yield session
            finally:
                self._left(session)
                log.info(
                    "its connection is over: %s", session.ending.code if session.ending else "client_lost"
                )

    async def make_resumable(self, session: Session) -> None:
        """Before its client is told the token: another ingress must know it if this one is lost just then.

        A memory that is slow or gone holds nobody up for longer than copies are apart anyway.
        """
        push, key = alone(self._push([session])), session.identity.key
        # One push of a session at a time: an older one that came later would take frames back.
        self._first_pushes.add(key)
        push.add_done_callback(lambda _: self._first_pushes.discard(key))
        done, _ = await asyncio.wait([push], timeout=self.config.snapshot_s)
        for each in done:
            each.result()

    def ended(self, ending: Ending) -> None:
        """Count how a connection ended, whether it had a seat or not."""
        self.endings[ending.code] += 1

    async def _new(self, conditions: Conditions) -> Session:
        identity = Identity.new()
        seating = await self._open(identity.session_id, conditions, self.card)
        self.metrics.counts["sessions_opened"] += 1
        return self._seat(identity, conditions, seating, self._memory())

    async def _open(self, session_id: str, conditions: Conditions, card: LaneCard, **asked: Any) -> Seating:
        try:
            return await self._seats.open(session_id, conditions, card, **asked)
        except SeatsExhausted:
            self.metrics.counts["refused_seats" if self._is_full else "refused_late"] += 1
            raise

    @property
    def _is_full(self) -> bool:
        return any(used >= seats for _, _, seats, used in self._seats.counts)

    async def _revive(self, resume: Resume) -> Session:
        """The session of a token, as it was when its client had heard `next_reply` frames.

        What was lived after that is lived again from the sound the client still has, and says the same.
        """
        key = hash_token(resume.token)
        lock = self._reviving.setdefault(key, asyncio.Lock())
        try:
            async with lock:  # a client that asks twice must not have two sessions
                return await self._go_on(resume, key)
        finally:
            if not lock.locked():
                self._reviving.pop(key, None)

    async def _go_on(self, resume: Resume, key: str) -> Session:
        update = await self._newest_memory(key)
        here = self._sessions.get(key)
        if update is None:
            raise UnknownTokenError("no session is kept for this token (any more); begin a new one")
        known, memory = update.facts, self._memory()
        memory.apply(update)
        card = self.card if known["codec"] in ("", self.card.codec) else self._bundles.card(known["bundle"])
        if card is None or not memory.start <= resume.next_reply:
            raise UnknownTokenError("what is kept of this session cannot be resumed; begin a new one")
        memory.rewind(min(resume.next_reply, memory.end))
        identity = Identity(known["session_id"], resume.token)
        conditions, path = Conditions(**known["conditions"]), tuple(known["path"]) or None
        if here is None:
            seating = await self._open(
                identity.session_id, conditions, card, history=memory.history(), preferred=path
            )
        else:
            seating = await self._take_over(here, conditions, card, memory, path)
        self.metrics.counts["resumes"] += 1
        session = self._seat(identity, conditions, seating, memory, first_reply=resume.next_reply)
        session.turn_taking = known["turn_taking"]
        return session

    async def _newest_memory(self, key: str) -> Update | None:
        """What a session is resumed from: the copy is claimed, also of one that is here.

        Its client may have been elsewhere meanwhile, and may have found no seat there: without the claim,
        this ingress would be told that the session went on elsewhere.
        """
        kept = None
        try:
            kept = await self._keeper.claim(key)
        except StageLostError:
            if key not in self._sessions:
                raise
        if (here := self._sessions.get(key)) is None:
            return kept
        own = here.memory.snapshot(facts(here))
        return kept if kept is not None and kept.history.end > own.history.end else own

    async def _take_over(
        self,
        here: Session,
        conditions: Conditions,
        card: LaneCard,
        memory: SessionMemory,
        path: tuple[str, ...] | None,
    ) -> Seating:
        """Seats for a session that goes on in place of one that is here, and keeps its seats until then."""
        here.is_held = here.is_paused = True
        await self._mover.settled(here)
        here.is_paused = True
        try:
            seating = await self._open(
                here.session_id,
                conditions,
                card,
                history=memory.history(),
                old=here.seating,
                preferred=path,
            )
        except BaseException:
            here.is_held = here.is_paused = False  # its client may ask again
            raise
        if self._sessions.get(here.identity.key) is here:
            self._drop(here, RESUMED)
        return seating

    def _memory(self) -> SessionMemory:
        return SessionMemory(self.config.memory_frames, self.card.sound_reach_frames + SPARE_PCM_FRAMES)

    def _seat(
        self,
        identity: Identity,
        conditions: Conditions,
        seating: Seating,
        memory: SessionMemory,
        first_reply: int = 0,
    ) -> Session:
        card = seating.card
        session = Session(
            identity,
            conditions,
            seating,
            memory,
            FrameBuffer(card.frame_samples, self.config.max_waiting_frames, memory.end),
            _transcripts(TextTokenizer.from_json(card.tokenizer), memory),
            TurnTracker(self.config.turns, self.tick_s * MS_PER_S),
            Aligner(self.config.align, self.tick_s),
            self.config.max_waiting_messages,
            first_reply,
            round(self.config.recovery_s / self.tick_s),
        )
        if (other := self._sessions.get(identity.key)) is not None:
            self._drop(other, RESUMED)
        self._sessions[identity.key] = session
        return session

    def _left(self, session: Session) -> None:
        """The connection is gone."""
        if self._sessions.get(session.identity.key) is not session:
            return  # resumed over another connection, or taken over
        if session.ending is None or session.reopens():
            session.left_s = self.clock.now()
        else:
            self._close(session)

    def _close(self, session: Session) -> None:
        self._drop(session, None)
        if session.ending is None or session.ending.close_code is not CloseCode.RESTARTING:
            alone(self._keeper.forget(session))

    def _drop(self, session: Session, ending: Ending | None) -> None:
        """This ingress has the session no more; its seats are given back."""
        del self._sessions[session.identity.key]
        if ending is not None:
            session.cut_off(ending)
        else:
            self.metrics.counts["frames_lost"] += session.waiting
        if session.ending is None:
            session.ending = Ending.of(CloseCode.GOING_AWAY, "client_left", "the client did not come back")
        if session.seating is not None:
            self._seats.close(session.seating)
            session.seating = None
        if self._vad is not None:
            self._vad.forget(session.session_id)
        if session.on_closed is not None:
            session.on_closed()

    # What is done for sessions between ticks.

    async def _every(self, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self.clock.sleep_until(self.clock.now() + period_s)
            await work()

    async def _attend(self) -> None:
        now_s, staying = self.clock.now(), self._seats.staying()
        for session in list(self._sessions.values()):
            if session.has_left(now_s, self.config.grace_s):
                self._close(session)
                continue
            self._mover.attend(session, staying)
            if session.wants_adjusting and session.seating is not None:
                session.wants_adjusting = False
                self._seats.adjust(session.seating, session.conditions)

    async def _look_for_bundles(self) -> None:
        try:
            await self._bundles.find()
        # A replica may go while it is asked; the next round asks again.
        except ServiceError as error:
            log.info("the stages' cards could not be read: %s", error)

    async def _renew(self) -> None:
        await self._keeper.renew(list(self._sessions.values()))

    async def _push_slice(self) -> None:
        """A part of the sessions at a time: all at once would hold up a tick."""
        self._slice = (self._slice + 1) % PUSH_SLICES
        mine = [s for n, s in enumerate(self._sessions.values()) if n % PUSH_SLICES == self._slice]
        await self._push([s for s in mine if s.identity.key not in self._first_pushes])

    async def _push(self, sessions: Sequence[Session]) -> None:
        for session in await self._keeper.push(sessions):
            if self._sessions.get(session.identity.key) is session:
                self._drop(
                    session, Ending.of(CloseCode.GOING_AWAY, "resumed", "the session went on elsewhere")
                )

    # Numbers.

    def _reaction_ms(self) -> float | None:
        """As architecture.md defines it, for the typical frame: its fill, its way, the acoustic delay."""
        spent_ms = self.metrics.answer_ms(50)
        if spent_ms is None:
            return None
        return spent_ms + (0.5 + self.card.acoustic_delay_frames) * self.tick_s * MS_PER_S

    def stats(self) -> dict[str, Any]:
        """Numbers for `/stats`."""
        stages = {
            name: {"replicas": replicas, "seats": seats, "seats_used": used}
            for name, replicas, seats, used in self._seats.counts
        }
        return {
            "sessions": len(self._sessions),
            "sessions_waiting": sum(session.left_s is not None for session in self._sessions.values()),
            "seats": min((stage["seats"] for stage in stages.values()), default=0),
            "seats_used": max((stage["seats_used"] for stage in stages.values()), default=0),
            "stages": stages,
            "lanes": len(self._seats.lanes),
            "tasks": len(asyncio.all_tasks()),
            "tick_p50_ms": self.metrics.tick_ms(50),
            "tick_p99_ms": self.metrics.tick_ms(99),
            "reaction_ms": self._reaction_ms(),
            **{name: self.metrics.counts[name] for name in COUNTS},
            "moves": {name: self.metrics.counts[f"moves_{name}"] for name in MOVES},
            "endings": dict(self.endings),
        }


# Tokens that a character may be spelled with, UTF-8's longest: what a transcript has to have seen.
_LONGEST_CHARACTER = 4


def _transcripts(tokenizer: TextTokenizer, memory: SessionMemory) -> Transcripts:
    """Streams that go on where the memory ends, perhaps inside a character."""
    streams = Transcripts(TextStream(tokenizer), TextStream(tokenizer))
    if memory.end > memory.start:
        reply = memory.history().reply
        for stream, column in zip(streams, (OUR_TEXT, USER_TEXT), strict=True):
            said = [token for token in reply[:, column].tolist() if token != PAD]
            for token in said[-_LONGEST_CHARACTER:]:
                stream.feed(token)
    return streams
