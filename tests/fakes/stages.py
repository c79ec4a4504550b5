"""Stages without a model: what the user says comes back one frame later, from the same seat.

A frame's codes are its first `K` samples, so that every reply names the frame and the session it
stems from. Each seat's converse state is the codes of its last frame and how many there were.
"""

import asyncio

import numpy as np

from paluku.serving.ports import AsyncStage, LaneCard
from paluku.streaming.ports import Batch, Conditions, History, Stage
from paluku.tokens.text import PAD, CharTokenizer

K = 8
FRAME_SAMPLES = 640
SCRIPT = "నమస్తే é!"  # the transcript of every session: Telugu, and characters spelled as bytes


def card(num_seats: int) -> LaneCard:
    return LaneCard(
        bundle="fake",
        num_seats=num_seats,
        sample_rate_hz=16_000,
        frame_samples=FRAME_SAMPLES,
        tokenizer=CharTokenizer().to_json(),
        acoustic_delay_frames=1,
    )


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

    def prime(self, seat: int, history: History) -> None:
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
        self._script = CharTokenizer().encode(SCRIPT)

    def open(self, seat: int, conditions: Conditions) -> None:
        super().open(seat, conditions)
        self._last[seat], self._frames[seat] = -1, 0

    def step(self, batch: Batch) -> Batch:
        self._check(batch, K)
        said = [self._script[n] if n < len(self._script) else PAD for n in self._frames[batch.seats]]
        reply = np.column_stack([np.array(said, np.int16), self._last[batch.seats]])
        self._last[batch.seats] = batch.payload
        self._frames[batch.seats] += 1
        return Batch(batch.seats, reply)


class FakeDecode(_FakeStage):
    def step(self, batch: Batch) -> Batch:
        self._check(batch, K)
        pcm = np.zeros((len(batch.seats), FRAME_SAMPLES), np.int16)
        pcm[:, :K] = np.maximum(batch.payload, 0)
        return Batch(batch.seats, pcm)


class InProcess:
    """`AsyncStage` over a stage of this process."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def open(self, seat: int, conditions: Conditions) -> None:
        self.stage.open(seat, conditions)

    async def step(self, batch: Batch) -> Batch:
        return self.stage.step(batch)

    async def close(self, seat: int) -> None:
        self.stage.close(seat)


class Unreliable:
    """An `AsyncStage` that can be told to fail, or to hold every step until it is let go."""

    def __init__(self, stage: AsyncStage) -> None:
        self._stage = stage
        self.failing: set[str] = set()
        self.attempts = 0  # steps tried
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self, seat: int, conditions: Conditions) -> None:
        self._maybe_fail("open")
        await self._stage.open(seat, conditions)

    async def step(self, batch: Batch) -> Batch:
        await self.gate.wait()
        self.attempts += 1
        self._maybe_fail("step")
        return await self._stage.step(batch)

    async def close(self, seat: int) -> None:
        self._maybe_fail("close")
        await self._stage.close(seat)

    def _maybe_fail(self, what: str) -> None:
        if what in self.failing:
            raise ConnectionError(f"{what} cannot reach the replica")


def fake_stages(num_seats: int) -> list[Unreliable]:
    """Encode, Converse, Decode, each of which can be made to fail."""
    return [Unreliable(InProcess(kind(num_seats))) for kind in (FakeEncode, FakeConverse, FakeDecode)]
