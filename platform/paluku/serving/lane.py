"""A lane: the replicas a group of sessions is seated on, one of each stage, pipelined.

One worker per stage takes batches from its queue in order, so tick k+1 is encoded while tick k is in
Converse. A replica that fails or hangs loses the lane: batches already under way fail at once instead
of waiting for it one by one, and their sessions are seated elsewhere.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from paluku.errors import SeatsExhausted
from paluku.serving.calls import alone, call
from paluku.serving.ports import LaneCard, LeasedBatch, LeaseGoneError, Replica, RowStatus, StageLostError
from paluku.streaming.ports import FIRST_CODE

# By the number of deployments in the pipeline.
STAGES = {3: ("encode", "converse", "decode"), 1: ("fused",)}

# Told how long a stage took for a batch: (its name, seconds).
Timed = Callable[[str, float], None]


class Row(NamedTuple):
    """One session's frame: its lease on each stage, the frame's number, and the sound int16 `[S]`."""

    leases: tuple[int, ...]
    frame: int
    pcm: np.ndarray


class Answer(NamedTuple):
    """What became of a row. `lost` names the stage whose seat was gone; then the rest is zeros."""

    user_codes: np.ndarray  # [K]
    reply: np.ndarray  # [2 + K]
    pcm: np.ndarray  # [S]
    lost: str | None = None


class Lane:
    """The pipeline over one tuple of replicas. Create and use it in a running event loop."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        card: LaneCard,
        *,
        max_in_flight: int,
        patience_s: Callable[[int], float],
        now: Callable[[], float],
        timed: Timed,
    ) -> None:
        self.replicas = tuple(replicas)
        self.key = tuple(replica.replica_id for replica in replicas)
        self.lost: StageLostError | None = None
        self.lost_replica: str | None = None
        self._names = STAGES[len(replicas)]
        self._card = card
        self._max_in_flight = max_in_flight
        self._patience_s = patience_s  # by the stage's position: how long a step may take now
        self._now, self._timed = now, timed
        self._queues: list[asyncio.Queue[_Job]] = [asyncio.Queue() for _ in replicas]  # bounded by has_room
        self._in_flight = 0
        self._jobs: set[_Job] = set()
        self._workers = [alone(self._work(position)) for position in range(len(replicas))]

    @property
    def has_room(self) -> bool:
        """Whether another batch may set out; else the stages are behind and frames wait for them."""
        return self._in_flight < self._max_in_flight

    @property
    def is_running(self) -> bool:
        """Whether every worker is at work."""
        return not any(worker.done() for worker in self._workers)

    def step(self, rows: Sequence[Row]) -> "asyncio.Future[list[Answer]]":
        """Send a batch on its way; the future holds an answer for each row, or StageLostError.

        Futures are done in the order of the calls.
        """
        assert self.has_room, f"{self._in_flight} batches are in flight; ask has_room first"
        self._in_flight += 1
        job = _Job(rows, self._card)
        job.done.add_done_callback(lambda _: self._landed(job))
        self._jobs.add(job)
        self._queues[0].put_nowait(job)
        return job.done

    async def stop(self) -> None:
        """Stop the workers; what is under way fails: whoever waits for it must not wait for ever."""
        for worker in self._workers:
            worker.cancel()
        self.lost = self.lost or StageLostError("the lane was given up; connect again")
        for job in list(self._jobs):
            job.finish(self.lost)
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _landed(self, job: "_Job") -> None:
        self._in_flight -= 1
        self._jobs.discard(job)

    async def _work(self, position: int) -> None:
        inbox, is_last = self._queues[position], position == len(self._queues) - 1
        while True:
            job = await inbox.get()
            if self.lost is None and job.rows:
                await self._visit(job, position)
            if is_last:
                job.finish(self.lost)
            else:
                self._queues[position + 1].put_nowait(job)

    async def _visit(self, job: "_Job", position: int) -> None:
        name, replica, began_s = self._names[position], self.replicas[position], self._now()
        work = replica.step(job.batch(position))
        try:
            stepped = await call(f"replica {replica.replica_id}", work, self._patience_s(position))
        except (StageLostError, SeatsExhausted, LeaseGoneError) as error:
            self.lost_replica = replica.replica_id
            self.lost = StageLostError(str(error))
        else:
            job.take(name, stepped.status, stepped.payload)
            self._timed(name, self._now() - began_s)


class _Job:
    """A batch on its way. A row whose seat is gone stays behind at the stage that says so."""

    def __init__(self, rows: Sequence[Row], card: LaneCard) -> None:
        self.done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.rows = list(range(len(rows)))  # those still on their way
        self._all = rows
        self._card = card
        self._lost: dict[int, str] = {}
        self._payload = np.stack([row.pcm for row in rows])
        self._codes = np.zeros((len(rows), card.num_codebooks), np.int16)
        self._reply = np.zeros((len(rows), FIRST_CODE + card.num_codebooks), np.int16)

    def batch(self, position: int) -> LeasedBatch:
        """What the next stage is sent."""
        leases = np.array([self._all[row].leases[position] for row in self.rows], np.int64)
        frames = np.array([self._all[row].frame for row in self.rows], np.int64)
        return LeasedBatch(leases, frames, self._payload)

    def take(self, stage: str, status: np.ndarray, payload: np.ndarray) -> None:
        """What a stage gave."""
        good = status == RowStatus.STEPPED
        self._lost.update({row: stage for row, is_good in zip(self.rows, good, strict=True) if not is_good})
        self.rows = [row for row, is_good in zip(self.rows, good, strict=True) if is_good]
        self._codes, self._reply, self._payload = self._codes[good], self._reply[good], payload[good]
        match stage:
            case "encode":
                self._codes = self._payload
            case "converse":
                self._reply, self._payload = (
                    self._payload,
                    np.ascontiguousarray(self._payload[:, FIRST_CODE:]),
                )
            case "fused":
                K = self._card.num_codebooks
                self._codes, self._reply, self._payload = np.split(
                    self._payload, [K, 2 * K + FIRST_CODE], axis=1
                )

    def finish(self, lost: StageLostError | None) -> None:
        """Tell whoever waits; it may have given up waiting."""
        if self.done.done():
            return
        if lost is not None:
            self.done.set_exception(lost)
        else:
            self.done.set_result(self._answers())

    def _answers(self) -> list[Answer]:
        """In the order of the rows."""
        K, S = self._card.num_codebooks, self._card.frame_samples
        none = np.zeros(K, np.int16), np.zeros(FIRST_CODE + K, np.int16), np.zeros(S, np.int16)
        found = dict(zip(self.rows, zip(self._codes, self._reply, self._payload, strict=True), strict=True))
        return [Answer(*found.get(row, none), self._lost.get(row)) for row in range(len(self._all))]
