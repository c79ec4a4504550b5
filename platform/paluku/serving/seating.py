"""Where sessions sit: seats leased on a path of replicas, and the lanes over them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from paluku.errors import SeatsExhausted
from paluku.serving.calls import SlowError, alone, call
from paluku.serving.config import ServingConfig
from paluku.serving.lane import STAGES, Lane
from paluku.serving.ports import Fleet, LaneCard, LeaseGoneError, Member, Replica, StageLostError, StageStatus
from paluku.streaming.clock import Clock
from paluku.streaming.metrics import TickMetrics
from paluku.streaming.placement import Candidate, choose
from paluku.streaming.ports import Conditions, History

# A path may prove full or dead while it is being opened; each time another is tried.
ATTEMPTS = 4

# Why a path could not be had.
NO_SEAT = (SeatsExhausted, LeaseGoneError, StageLostError)

Result = TypeVar("Result")


class Seating(NamedTuple):
    """A session's seats: a lane, and its lease on each of the lane's replicas."""

    lane: Lane
    leases: tuple[int, ...]
    card: LaneCard


class Seats:
    """Leases paths of seats, and keeps the lanes that have sessions. For one event loop."""

    def __init__(
        self, fleets: Sequence[Fleet], config: ServingConfig, clock: Clock, metrics: TickMetrics
    ) -> None:
        assert len(fleets) in STAGES, f"a pipeline has {sorted(STAGES)} deployments, not {len(fleets)}"
        self._fleets = fleets
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._tick_s = 0.0
        self._lanes: dict[tuple[tuple[str, ...], str], Lane] = {}  # by path and bundle
        self._ours: Counter[str] = Counter()  # our leases by replica, those being opened too
        self._sessions: Counter[tuple[tuple[str, ...], str]] = Counter()  # by path and bundle
        self._given: dict[int, Seating] = {}  # by identity: what was opened and not given back yet
        self._peaks: Counter[str] = Counter()  # our most leases since the replica's last word
        self._closing: set[asyncio.Task[None]] = set()
        self._others: dict[str, tuple[StageStatus, int]] = {}  # by replica: a status, others' seats by it
        self.stage_names = STAGES[len(fleets)]

    @property
    def lanes(self) -> list[Lane]:
        """Those that have sessions."""
        return list(self._lanes.values())

    @property
    def counts(self) -> list[tuple[str, int, int, int]]:
        """By stage: its name, replicas, seats and how many of them are used."""
        return [
            (name, len(fleet.members), sum(m.status.num_seats for m in fleet.members), self._used(fleet))
            for name, fleet in zip(self.stage_names, self._fleets, strict=True)
        ]

    def _used(self, fleet: Fleet) -> int:
        return sum(self._seats_used(member) for member in fleet.members)

    def _seats_used(self, member: Member) -> int:
        """Ours by our own count, which is never late, and others' by the replica's last word.

        What it says is of some instant since the word before: of our leases, at most as many as there
        were at one time since then are in it.
        """
        key, status = member.replica.replica_id, member.status
        known = self._others.get(key)
        if known is None or known[0] is not status:
            known = self._others[key] = (status, max(0, status.seats_used - self._peaks[key]))
            self._peaks[key] = self._ours[key]
        return known[1] + self._ours[key]

    def _count(self, key: tuple[str, ...]) -> None:
        self._ours.update(key)
        for replica_id in key:
            self._peaks[replica_id] = max(self._peaks[replica_id], self._ours[replica_id])

    def staying(self) -> set[str]:
        """The replicas that answer and will not be stopped."""
        return {
            member.replica.replica_id
            for fleet in self._fleets
            for member in fleet.members
            if not member.is_leaving
        }

    async def open(
        self,
        session: str,
        conditions: Conditions,
        card: LaneCard,
        history: History | None = None,
        *,
        old: Seating | None = None,
        keeps: bool = False,
        preferred: tuple[str, ...] | None = None,
    ) -> Seating:
        """Lease a path, and prime it when there is a history: then it is a session that moves.

        `old` are the session's own seats, which it gives up: they do not count as taken. If it `keeps`
        them, those whose replicas stay and hold the bundle are part of the new path as they are.

        Raises:
            SeatsExhausted: when no path has a free seat everywhere, or the replicas are too slow by now.
            StageLostError: when replicas failed again and again.
        """
        self._tick_s = card.frame_samples / card.sample_rate_hz
        refused: set[str] = set()
        for attempt in range(ATTEMPTS):
            kept = self._kept(old, card) if keeps else {}
            path = self._choose(card, refused, kept, old, moving=history is not None, preferred=preferred)
            try:
                return await self._open_path(path, session, conditions, card, history, refused, kept)
            except NO_SEAT:
                if attempt == ATTEMPTS - 1:
                    raise
                if self._closing:
                    # A seat that is being given back was refused, perhaps: once it is free it is one.
                    await asyncio.wait(set(self._closing), timeout=self._config.step_timeout_s)
                    refused.clear()
        raise AssertionError("every attempt returns or raises")

    async def reopen(
        self, session: str, seating: Seating, conditions: Conditions, history: History
    ) -> Seating:
        """Make a session's own seats fresh and prime them again: its memory has changed.

        Raises:
            SeatsExhausted, LeaseGoneError, StageLostError: when that cannot be; the old leases are gone.
        """
        members = {m.replica.replica_id: m for fleet in self._fleets for m in fleet.members}
        self.forget(seating)
        if not all(key in members for key in seating.lane.key):
            raise StageLostError("a replica of the session's path is gone")
        path = [members[key] for key in seating.lane.key]
        return await self._open_path(path, session, conditions, seating.card, history, set(), {})

    def close(self, seating: Seating, kept: Seating | None = None) -> None:
        """Give a seating's leases back, but for those `kept` has too; never waits, what fails expires."""
        if not self.forget(seating):
            return
        keep = set(kept.leases) if kept else set()
        leases = zip(seating.lane.replicas, seating.leases, strict=True)
        task = alone(self._close([(replica, lease) for replica, lease in leases if lease not in keep]))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def adjust(self, seating: Seating, conditions: Conditions) -> None:
        """Tell a seating's stages what its session asks for now, without waiting."""
        for replica, lease in zip(seating.lane.replicas, seating.leases, strict=True):
            alone(self._adjust(replica, lease, conditions))

    async def _adjust(self, replica: Replica, lease: int, conditions: Conditions) -> None:
        # Whatever is wrong with the seat, the next step says so; the next one is opened with them.
        with suppress(*NO_SEAT):
            work = replica.adjust(lease, conditions)
            await call(f"replica {replica.replica_id}", work, self._config.open_timeout_s)

    def _kept(self, old: Seating | None, card: LaneCard) -> dict[str, int]:
        """The leases of `old`, by replica, that another seating of `card` can go on with."""
        if old is None or old.card.bundle != card.bundle or old.lane.lost is not None:
            return {}
        staying = self.staying()
        return {key: lease for key, lease in zip(old.lane.key, old.leases, strict=True) if key in staying}

    def forget(self, seating: Seating) -> bool:
        """Count a seating no more, once; its lane stops with its last one. Whether it was counted still."""
        if self._given.pop(id(seating), None) is None:
            return False
        self._uncount(seating.lane.key, seating.card.bundle)
        return True

    def _uncount(self, path: tuple[str, ...], bundle: str) -> None:
        """One session fewer on a path; the lane over it stops with the last."""
        self._ours.subtract(path)
        self._sessions[path, bundle] -= 1
        if self._sessions[path, bundle] <= 0:
            del self._sessions[path, bundle]
            self._retire((path, bundle))

    def _retire(self, key: tuple[tuple[str, ...], str]) -> None:
        if (lane := self._lanes.pop(key, None)) is not None:
            alone(lane.stop())

    def lost(self, lane: Lane) -> None:
        """A lane's replica failed: its fleet is told, and nobody is seated on the lane any more."""
        if lane.lost_replica is None:
            return  # it was stopped
        self._tell(lane.lost_replica)
        for key in [key for key, known in self._lanes.items() if known is lane]:
            self._retire(key)

    def _patience_s(self, position: int) -> float:
        """How long a step of a stage may take: short where its sessions can be seated elsewhere."""
        staying = [member for member in self._fleets[position].members if not member.is_leaving]
        return self._config.step_timeout_s if len(staying) > 1 else self._config.lone_step_timeout_s

    def _tell(self, lost_replica: str) -> None:
        for fleet in self._fleets:
            fleet.lost(lost_replica)

    async def stop(self) -> None:
        """Stop the lanes."""
        await asyncio.gather(*[lane.stop() for lane in self._lanes.values()])
        self._lanes.clear()

    def _choose(
        self,
        card: LaneCard,
        refused: set[str],
        kept: Mapping[str, int],
        old: Seating | None,
        *,
        moving: bool,
        preferred: tuple[str, ...] | None,
    ) -> list[Member]:
        """A path; where a seat is kept there is no choice."""
        stages = [self._candidates(fleet, refused, kept, old) for fleet in self._fleets]
        lanes = {path: count for (path, bundle), count in self._sessions.items() if bundle == card.bundle}
        path = choose(
            stages,
            lanes,
            card.bundle,
            self._tick_s,
            moving=moving,
            preferred=preferred,
            retry_s=self._config.retry_s,
            busy_share=self._config.admission_p99_share,
        )
        members = [{m.replica.replica_id: m for m in fleet.members} for fleet in self._fleets]
        return [by_id[key] for by_id, key in zip(members, path, strict=True)]

    def _candidates(
        self, fleet: Fleet, refused: set[str], kept: Mapping[str, int], old: Seating | None
    ) -> list[Candidate]:
        """Where a session may sit; a replica that has it already, for another bundle too, has room for it."""
        own = [member for member in fleet.members if member.replica.replica_id in kept]
        members = own or [m for m in fleet.members if m.replica.replica_id not in refused]
        return [self._candidate(member, old) for member in members]

    def _candidate(self, member: Member, old: Seating | None) -> Candidate:
        status = member.status
        has_it = old is not None and member.replica.replica_id in old.lane.key
        return Candidate(
            replica_id=member.replica.replica_id,
            num_seats=status.num_seats,
            used=self._seats_used(member) - has_it,
            step_p99_ms=status.step_p99_ms,
            is_leaving=member.is_leaving,
            bundles=status.bundles,
        )

    async def _open_path(
        self,
        path: Sequence[Member],
        session: str,
        conditions: Conditions,
        card: LaneCard,
        history: History | None,
        refused: set[str],
        kept: Mapping[str, int],
    ) -> Seating:
        """Seats on every replica of a path; a replica that cannot is added to `refused`."""
        replicas = [member.replica for member in path]
        key = tuple(replica.replica_id for replica in replicas)
        fresh = [replica for replica in replicas if replica.replica_id not in kept]
        self._count(key)
        self._sessions[key, card.bundle] += 1
        opened: dict[str, int] = {}
        try:
            await self._on_each(fresh, lambda r: self._lease(r, session, conditions, card, opened), refused)
            if history is not None:
                await self._on_each(fresh, lambda r: r.prime(opened[r.replica_id], history), refused)
        except BaseException:
            self._uncount(key, card.bundle)
            alone(self._close([(r, opened[r.replica_id]) for r in fresh if r.replica_id in opened]))
            raise
        leases = {**kept, **opened}
        seating = Seating(self._lane(key, replicas, card), tuple(leases[name] for name in key), card)
        self._given[id(seating)] = seating
        return seating

    async def _lease(
        self,
        replica: Replica,
        session: str,
        conditions: Conditions,
        card: LaneCard,
        opened: dict[str, int],
    ) -> None:
        opened[replica.replica_id] = await replica.open(session, conditions, card.bundle)

    async def _on_each(
        self,
        replicas: Sequence[Replica],
        asked: Callable[[Replica], Awaitable[Result]],
        refused: set[str],
    ) -> list[Result]:
        """The same call to each replica at once.

        Raises:
            SeatsExhausted, LeaseGoneError: what a replica said.
            StageLostError: when one failed otherwise, or took too long; its fleet is told.
        """
        calls = [alone(self._within(replica, asked, refused)) for replica in replicas]
        if calls:
            await asyncio.wait(calls)
        for error in [done.exception() for done in calls]:
            if error is not None:
                raise error
        return [done.result() for done in calls]

    async def _within(
        self, replica: Replica, asked: Callable[[Replica], Awaitable[Result]], refused: set[str]
    ) -> Result:
        try:
            return await call(f"replica {replica.replica_id}", asked(replica), self._config.open_timeout_s)
        except NO_SEAT as error:
            refused.add(replica.replica_id)
            if isinstance(error, StageLostError) and not isinstance(error, SlowError):
                self._tell(replica.replica_id)
            raise

    async def _close(self, leases: Sequence[tuple[Replica, int]]) -> None:
        await asyncio.gather(*[self._give_back(replica, lease) for replica, lease in leases])

    async def _give_back(self, replica: Replica, lease: int) -> None:
        # What fails expires by itself; whoever closes a seat has nothing to do about it.
        with suppress(*NO_SEAT):
            await call(f"replica {replica.replica_id}", replica.close(lease), self._config.open_timeout_s)

    def _lane(self, key: tuple[str, ...], replicas: Sequence[Replica], card: LaneCard) -> Lane:
        lane = self._lanes.get((key, card.bundle))
        if lane is None or lane.lost is not None:
            self._retire((key, card.bundle))
            lane = self._lanes[key, card.bundle] = Lane(
                replicas,
                card,
                max_in_flight=self._config.max_in_flight,
                patience_s=self._patience_s,
                now=self._clock.now,
                timed=self._metrics.staged,
            )
        return lane
