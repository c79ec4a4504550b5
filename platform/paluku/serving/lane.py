"""A lane: three stages and the seats they share, pipelined.

One worker per stage takes jobs from its queue in order, so tick k+1 is encoded while tick k is in
Converse. Opening and closing a seat are jobs in the same queues: a close comes to each stage behind
the seat's last frame and before its next user's open, whatever is under way.

A stage that fails or hangs is lost, with everything it held: batches already under way fail at once
instead of waiting for it one by one. Only opening a seat tries it again.
"""

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any

from paluku.errors import one_line
from paluku.log import logger
from paluku.serving.ports import AsyncStage, StageLostError
from paluku.streaming.engine import Reply, replies, reply_codes
from paluku.streaming.ports import Batch, Conditions
from paluku.streaming.seats import SeatTable

log = logger(__name__)

ENCODE, CONVERSE, DECODE = range(3)
STAGES = ("encode", "converse", "decode")


class Lane:
    """Three stages, a seat table, and the batches under way. Create and use it in a running event loop."""

    def __init__(
        self,
        stages: Sequence[AsyncStage],
        num_seats: int,
        *,
        max_in_flight: int,
        step_timeout_s: float,
        open_timeout_s: float,
        retry_s: float,
    ) -> None:
        assert len(stages) == len(STAGES), f"a lane has the stages {STAGES}, not {len(stages)}"
        self._stages = stages
        self._seats = SeatTable(num_seats, retry_s)
        self._queues: list[asyncio.Queue[_Job]] = [asyncio.Queue() for _ in STAGES]  # bounded by has_room
        self._max_in_flight = max_in_flight
        self._step_timeout_s = step_timeout_s
        self._open_timeout_s = open_timeout_s
        self._lost: list[StageLostError | None] = [None for _ in STAGES]
        self._in_flight = 0
        self._workers: list[asyncio.Task[None]] = []

    @property
    def num_seats(self) -> int:
        """How many sessions fit."""
        return self._seats.num_seats

    @property
    def num_used(self) -> int:
        """Seats leased, the closing ones too."""
        return self._seats.num_used

    @property
    def has_room(self) -> bool:
        """Whether another batch may set out; else the stages are behind and frames wait for them."""
        return self._in_flight < self._max_in_flight

    @property
    def is_running(self) -> bool:
        """Whether every worker is at work."""
        return bool(self._workers) and not any(worker.done() for worker in self._workers)

    def start(self) -> None:
        """Start the workers.

        Each in an empty context: calls of Serve handles that share a request's context share its
        internal id, and one of two concurrent ones never returns.
        """
        self._workers = [
            asyncio.create_task(self._work(position), name=f"lane-{name}", context=contextvars.Context())
            for position, name in enumerate(STAGES)
        ]

    async def stop(self) -> None:
        """Stop the workers; what is under way is dropped."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []

    def lease(self) -> int:
        """The lowest free seat; it must be opened, and retired in the end.

        Raises:
            SeatsExhausted: when there is none.
        """
        return self._seats.lease()

    async def open(self, seat: int, conditions: Conditions) -> None:
        """Make a leased seat ready on every stage.

        Raises:
            StageLostError: when a stage cannot; retire the seat.
        """
        await self._send(_Open(seat, conditions))
        self._seats.opened(seat)

    def step(self, batch: Batch) -> "asyncio.Future[list[Reply]]":
        """Send a batch on its way; the future holds its replies in order, or StageLostError.

        Futures are done in the order of the calls.
        """
        assert self.has_room, f"{self._in_flight} batches are in flight; ask has_room first"
        self._in_flight += 1
        done = self._send(_Step(batch))
        done.add_done_callback(self._landed)
        return done

    def retire(self, seat: int) -> None:
        """End a session. Its seat is free once every stage has been told, behind the last frame."""
        self._seats.closing(seat)
        self._send(_Close(seat)).add_done_callback(lambda done: self._closed(seat, done))

    def _send(self, job: "_Job") -> "asyncio.Future[Any]":
        self._queues[ENCODE].put_nowait(job)
        return job.done

    def _landed(self, _: object) -> None:
        self._in_flight -= 1

    def _closed(self, seat: int, done: "asyncio.Future[None]") -> None:
        if done.cancelled():
            return
        if error := done.exception():
            # The seat can be used again all the same: a stage makes it fresh when it is opened.
            log.warning("seat %d was not closed cleanly: %s", seat, one_line(error))
        self._seats.release(seat)

    async def _work(self, position: int) -> None:
        inbox = self._queues[position]
        while True:
            job = await inbox.get()
            if job.wants(self._lost[position]):
                await self._visit(job, position)
            if position == DECODE:
                job.finish()
            else:
                self._queues[position + 1].put_nowait(job)

    async def _visit(self, job: "_Job", position: int) -> None:
        try:
            async with asyncio.timeout(self._step_timeout_s if job.is_step else self._open_timeout_s):
                await job.visit(position, self._stages[position])
        # A stage is another process behind a port: Ray, gRPC and the model can raise anything, and
        # the clock has to outlive it. Nothing is swallowed: it reaches whoever waits for the job.
        except Exception as error:
            log.exception("stage %s is lost", STAGES[position])
            name, kind = STAGES[position], type(error).__name__
            job.lost = self._lost[position] = StageLostError(f"stage {name} is lost ({kind}); connect again")
        else:
            self._lost[position] = None


class _Job:
    """What passes through the three stages in order."""

    is_step = False

    def __init__(self) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.lost: StageLostError | None = None

    def wants(self, stage_lost: StageLostError | None) -> bool:
        """Whether to visit the next stage, which was lost by an earlier job or not."""
        self.lost = self.lost or stage_lost
        return self.lost is None

    async def visit(self, position: int, stage: AsyncStage) -> None:
        """Do the stage's part."""
        raise NotImplementedError

    def finish(self) -> None:
        """Tell whoever waits; it may have given up waiting."""
        if self.done.done():
            return
        if self.lost is not None:
            self.done.set_exception(self.lost)
        else:
            self.done.set_result(self.result())

    def result(self) -> Any:
        """What the job was for."""
        return None


class _Open(_Job):
    def __init__(self, seat: int, conditions: Conditions) -> None:
        super().__init__()
        self._seat, self._conditions = seat, conditions

    def wants(self, stage_lost: StageLostError | None) -> bool:  # noqa: ARG002 (tries a lost stage again)
        return self.lost is None

    async def visit(self, position: int, stage: AsyncStage) -> None:  # noqa: ARG002 (every stage alike)
        await stage.open(self._seat, self._conditions)


class _Close(_Job):
    def __init__(self, seat: int) -> None:
        super().__init__()
        self._seat = seat

    def wants(self, stage_lost: StageLostError | None) -> bool:
        return stage_lost is None  # whatever happened at the stages before

    async def visit(self, position: int, stage: AsyncStage) -> None:  # noqa: ARG002 (every stage alike)
        await stage.close(self._seat)


class _Step(_Job):
    is_step = True

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self._batch = batch
        self._spoken = batch

    async def visit(self, position: int, stage: AsyncStage) -> None:
        if position == DECODE:
            self._batch = reply_codes(self._spoken)
        self._batch = await stage.step(self._batch)
        if position == CONVERSE:
            self._spoken = self._batch

    def result(self) -> list[Reply]:
        return replies(self._spoken, self._batch)
