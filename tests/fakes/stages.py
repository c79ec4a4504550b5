"""Stages without a model: what the user says comes back one frame later, from the same seat.

A frame's codes are its first `K` samples, so that every reply names the frame and the session it
stems from. Each seat's converse state is the codes of its last frame and how many there were.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import numpy as np

from paluku.errors import SeatsExhausted
from paluku.serving.ports import (
    LeasedBatch,
    LeaseGoneError,
    Member,
    Pressure,
    Pushed,
    RowStatus,
    StageCard,
    StageStatus,
    Stepped,
)
from paluku.streaming.memory import SessionMemory, Update
from paluku.streaming.ports import FIRST_CODE, Batch, Conditions, History, Stage
from paluku.tokens.text import PAD, default_tokenizer

K = 8
FRAME_SAMPLES = 640
SCRIPT = "నమస్తే é!"  # the transcript of every session: Telugu, and characters spelled as bytes
HEARD = "ఆ é?"  # what is understood of every user, from this frame on
HEARD_FROM = 20
BUNDLE = "fake"


def frame(*codes: int) -> bytes:
    """The PCM16 of a frame whose codes are these."""
    pcm = np.zeros(FRAME_SAMPLES, "<i2")
    pcm[: len(codes)] = codes
    return pcm.tobytes()


class _FakeStage:
    def __init__(self, num_seats: int) -> None:
        self.num_seats = num_seats
        self.open_seats: dict[int, Conditions] = {}

    def open(self, seat: int, conditions: Conditions) -> None:
        self.open_seats[seat] = conditions

    reach_frames = 1

    def adjust(self, seat: int, conditions: Conditions) -> None:
        self.open_seats[seat] = conditions

    def prime(self, seat: int, history: History) -> Iterator[None]:
        yield

    def step(self, batch: Batch) -> Batch:
        raise NotImplementedError

    def close(self, seat: int) -> None:
        del self.open_seats[seat]

    def _check(self, batch: Batch, width: int) -> None:
        closed = [seat for seat in batch.seats.tolist() if seat not in self.open_seats]
        assert not closed, f"seats {closed} were stepped while closed"
        assert batch.payload.shape == (len(batch.seats), width)
        assert batch.payload.dtype == np.int16


class FakeEncode(_FakeStage):
    def step(self, batch: Batch) -> Batch:
        self._check(batch, FRAME_SAMPLES)
        return Batch(batch.seats, batch.payload[:, :K])


class FakeConverse(_FakeStage):
    def __init__(self, num_seats: int) -> None:
        super().__init__(num_seats)
        self._last = np.full((num_seats, K), -1, np.int16)
        self._frames = np.zeros(num_seats, int)
        self._script = default_tokenizer().encode(SCRIPT)
        self._heard = [PAD] * HEARD_FROM + default_tokenizer().encode(HEARD)

    def open(self, seat: int, conditions: Conditions) -> None:
        super().open(seat, conditions)
        self._last[seat], self._frames[seat] = -1, 0

    def prime(self, seat: int, history: History) -> Iterator[None]:
        self._frames[seat] = history.end
        if len(history.user_codes):
            self._last[seat] = history.user_codes[-1]
        yield

    def step(self, batch: Batch) -> Batch:
        self._check(batch, K)
        said = [self._script[n] if n < len(self._script) else PAD for n in self._frames[batch.seats]]
        heard = [self._heard[n] if n < len(self._heard) else PAD for n in self._frames[batch.seats]]
        reply = np.column_stack(
            [np.array(said, np.int16), np.array(heard, np.int16), self._last[batch.seats]]
        )
        self._last[batch.seats] = batch.payload
        self._frames[batch.seats] += 1
        return Batch(batch.seats, reply)


class FakeDecode(_FakeStage):
    def step(self, batch: Batch) -> Batch:
        self._check(batch, K)
        pcm = np.zeros((len(batch.seats), FRAME_SAMPLES), np.int16)
        pcm[:, :K] = np.maximum(batch.payload, 0)
        return Batch(batch.seats, pcm)


class FakeFused(_FakeStage):
    """The three in one, as `FusedStage` is."""

    def __init__(self, num_seats: int) -> None:
        super().__init__(num_seats)
        self._parts = (FakeEncode(num_seats), FakeConverse(num_seats), FakeDecode(num_seats))

    def open(self, seat: int, conditions: Conditions) -> None:
        super().open(seat, conditions)
        for part in self._parts:
            part.open(seat, conditions)

    def prime(self, seat: int, history: History) -> Iterator[None]:
        for part in self._parts:
            yield from part.prime(seat, history)

    def step(self, batch: Batch) -> Batch:
        codes = self._parts[0].step(batch)
        reply = self._parts[1].step(codes)
        sound = self._parts[2].step(Batch(batch.seats, np.ascontiguousarray(reply.payload[:, FIRST_CODE:])))
        return Batch(batch.seats, np.concatenate([codes.payload, reply.payload, sound.payload], axis=1))

    def close(self, seat: int) -> None:
        super().close(seat)
        for part in self._parts:
            part.close(seat)


KINDS: dict[str, Callable[[int], _FakeStage]] = {
    "encode": FakeEncode,
    "converse": FakeConverse,
    "decode": FakeDecode,
    "fused": FakeFused,
}
GRAPH = ("encode", "converse", "decode")


class FakeReplica:
    """A `Replica` of this process, which can be told to fail, or to hold every step until it is let go."""

    _leases = itertools.count(1)

    def __init__(self, kind: str, num_seats: int, replica_id: str = "", bundle: str = BUNDLE) -> None:
        self.kind = kind
        self.replica_id = replica_id or f"{kind}-0"
        self.num_seats = num_seats
        self.bundles: dict[str, Stage] = {bundle: KINDS[kind](num_seats)}
        self.held: dict[int, tuple[str, str, int]] = {}  # session, bundle and seat by lease
        self.due: dict[int, int] = {}  # the frame that a lease takes next
        self.asked: list[tuple[str, Conditions]] = []  # every open, by session
        self.failing: set[str] = set()  # names of methods; "all" is a process that is gone
        self.attempts = 0  # steps tried
        self.priming: Callable[[], Awaitable[None]] | None = None  # what a prime waits for
        self.stepping: Callable[[], Awaitable[None]] | None = None  # and what a step does
        self.gate = asyncio.Event()
        self.gate.set()

    async def expire(self) -> None:
        """Every lease has expired."""
        for lease in list(self.held):
            await self.close(lease)

    def load(self, bundle: str) -> None:
        """A newer generation."""
        self.bundles[bundle] = KINDS[self.kind](self.num_seats)

    async def card(self, bundle: str) -> StageCard:
        self._maybe_fail("card")
        has_codec = self.kind != "converse"
        return StageCard(
            stage=self.kind,
            bundle=bundle,
            codec="codec",
            num_seats=self.num_seats,
            sample_rate_hz=16_000,
            frame_samples=FRAME_SAMPLES,
            num_codebooks=K,
            tokenizer=default_tokenizer().to_json(),
            reach_frames=1,
            sound_reach_frames=0 if self.kind in ("encode", "fused") else None,
            silence=(0,) * K if has_codec else None,
            acoustic_delay_frames=1 if self.kind in ("converse", "fused") else None,
        )

    async def status(self, pressure: Pressure) -> StageStatus:
        return self.status_now()

    def status_now(self) -> StageStatus:
        return StageStatus(
            bundles=tuple(self.bundles), num_seats=self.num_seats, seats_used=len(self.held), step_p99_ms=1.0
        )

    async def open(self, session: str, conditions: Conditions, bundle: str) -> int:
        self._maybe_fail("open")
        if bundle not in self.bundles:
            raise LeaseGoneError(f"no bundle {bundle}")
        for lease, (holder, of, _) in list(self.held.items()):
            if (holder, of) == (session, bundle):
                await self.close(lease)
        free = set(range(self.num_seats)) - {seat for _, of, seat in self.held.values() if of == bundle}
        if not free:
            raise SeatsExhausted("all seats are taken", 1.0)
        lease, seat = next(self._leases), min(free)
        self.bundles[bundle].open(seat, conditions)
        self.held[lease], self.due[lease] = (session, bundle, seat), 0
        self.asked.append((session, conditions))
        return lease

    async def adjust(self, lease: int, conditions: Conditions) -> None:
        self._maybe_fail("adjust")
        _, bundle, seat = self._holding(lease)
        self.bundles[bundle].adjust(seat, conditions)

    async def prime(self, lease: int, history: History) -> None:
        self._maybe_fail("prime")
        _, bundle, seat = self._holding(lease)
        if self.priming is not None:
            await self.priming()
        for _ in self.bundles[bundle].prime(seat, history):
            await asyncio.sleep(0)
        self.due[lease] = history.end

    async def step(self, batch: LeasedBatch) -> Stepped:
        await self.gate.wait()
        if self.stepping is not None:
            await self.stepping()
        self.attempts += 1
        self._maybe_fail("step")
        status = np.zeros(len(batch.leases), np.uint8)
        rows: list[np.ndarray] = []
        for row, (lease, frame) in enumerate(zip(batch.leases.tolist(), batch.frames.tolist(), strict=True)):
            if lease not in self.held:
                status[row] = RowStatus.GONE
            elif frame != self.due[lease]:
                status[row] = RowStatus.OUT_OF_ORDER
            else:
                _, bundle, seat = self.held[lease]
                one = Batch(np.array([seat], np.int32), batch.payload[row : row + 1])
                rows.append(self.bundles[bundle].step(one).payload[0])
                self.due[lease] += 1
        payload = np.zeros((len(status), *(rows[0].shape if rows else (1,))), np.int16)
        if rows:
            payload[status == RowStatus.STEPPED] = np.stack(rows)
        return Stepped(status, payload)

    async def renew(self, leases: np.ndarray) -> np.ndarray:
        self._maybe_fail("renew")
        return np.array([lease in self.held for lease in leases.tolist()], bool)

    async def close(self, lease: int) -> None:
        self._maybe_fail("close")
        if lease in self.held:
            _, bundle, seat = self.held.pop(lease)
            self.bundles[bundle].close(seat)

    def _holding(self, lease: int) -> tuple[str, str, int]:
        if lease not in self.held:
            raise LeaseGoneError(f"no lease {lease}")
        return self.held[lease]

    def _maybe_fail(self, what: str) -> None:
        if self.failing & {what, "all"}:
            raise ConnectionError(f"{what} cannot reach the replica")


class FakeFleet:
    """A `Fleet` whose members are what a test says; their status is always of this instant."""

    def __init__(self, *replicas: FakeReplica) -> None:
        self.replicas = list(replicas)
        self.leaving: set[str] = set()
        self.gone: set[str] = set()

    @property
    def members(self) -> Sequence[Member]:
        return [
            Member(replica, replica.status_now(), replica.replica_id in self.leaving)
            for replica in self.replicas
            if replica.replica_id not in self.gone
        ]

    def lost(self, replica_id: str) -> None:
        self.gone.add(replica_id)

    async def start(self, pressure: Callable[[], Pressure]) -> None:
        self.pressure = pressure

    async def stop(self) -> None:
        pass


class FakeSnapshots:
    """`Snapshots` in this process."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, SessionMemory, Update]] = {}
        self.is_failing = False

    async def push(self, owner: str, updates: Mapping[str, Update]) -> Pushed:
        if self.is_failing:
            raise ConnectionError("the memory is gone")
        taken, gaps = [], []
        for token, update in updates.items():
            of, memory, _ = self.kept.get(token, (owner, SessionMemory(1_000, 200), update))
            if of != owner:
                taken.append(token)
                continue
            memory.apply(update)
            self.kept[token] = (owner, memory, update)
            if memory.start > update.facts["memory"]["start"]:
                gaps.append(token)
        return Pushed(tuple(taken), tuple(gaps))

    async def claim(self, owner: str, token: str) -> Update | None:
        if token not in self.kept:
            return None
        _, memory, update = self.kept[token]
        self.kept[token] = (owner, memory, update)
        return memory.snapshot(update.facts)

    async def forget(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            self.kept.pop(token, None)


def fake_fleets(num_seats: int, replicas: int = 1, kinds: Sequence[str] = GRAPH) -> list[FakeFleet]:
    """A fleet for each stage."""
    return [
        FakeFleet(*[FakeReplica(kind, num_seats, f"{kind}-{number}") for number in range(replicas)])
        for kind in kinds
    ]
