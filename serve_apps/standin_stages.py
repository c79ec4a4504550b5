"""Stages of no cost whose replies say what they stem from; neither torch nor Ray in here.

The codes of a frame are its first samples, and the reply is the frame before.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from paluku.streaming.fused import FusedStage
from paluku.streaming.ports import FIRST_CODE, Batch, Conditions, History, Stage
from paluku.tokens.text import PAD

StageName = Literal["encode", "converse", "decode", "fused"]

K = 8
FRAME_SAMPLES = 640
WIDTH_OUT: dict[StageName, int] = {
    "encode": K,
    "converse": FIRST_CODE + K,
    "decode": FRAME_SAMPLES,
    "fused": K + FIRST_CODE + K + FRAME_SAMPLES,
}


def stage_of(name: StageName, num_seats: int) -> Stage:
    """A stand-in for a stage."""
    encode, converse, decode = StandinEncode(num_seats), StandinConverse(num_seats), StandinDecode(num_seats)
    stages: dict[StageName, Stage] = {
        "encode": encode,
        "converse": converse,
        "decode": decode,
        "fused": FusedStage(encode, converse, decode),
    }
    return stages[name]


class _Standin:
    reach_frames = 1

    def __init__(self, num_seats: int) -> None:
        self.num_seats = num_seats

    def open(self, seat: int, conditions: Conditions) -> None:
        """Nothing is remembered."""

    def adjust(self, seat: int, conditions: Conditions) -> None:
        """Nothing is spoken."""

    def prime(self, seat: int, history: History) -> Iterator[None]:  # noqa: ARG002 (the port's)
        """Nothing was remembered."""
        yield

    def close(self, seat: int) -> None:
        """Nothing is forgotten."""


class StandinEncode(_Standin):
    """PCM int16 `[N, S]` to its first samples, `[N, K]`."""

    def step(self, batch: Batch) -> Batch:
        """As the port."""
        return Batch(batch.seats, np.ascontiguousarray(batch.payload[:, :K]))


class StandinConverse(_Standin):
    """The codes of the frame before: int16 `[N, K]` to `[N, 2 + K]`; -1 at a session's first frame."""

    def __init__(self, num_seats: int) -> None:
        super().__init__(num_seats)
        self._last = np.full((num_seats, K), -1, np.int16)

    def open(self, seat: int, conditions: Conditions) -> None:  # noqa: ARG002 (the port's)
        """A fresh seat has no frame before."""
        self._last[seat] = -1

    def prime(self, seat: int, history: History) -> Iterator[None]:
        """The last frame of the history is the one before."""
        if len(history.user_codes):
            self._last[seat] = history.user_codes[-1]
        yield

    def step(self, batch: Batch) -> Batch:
        """As the port."""
        text = np.full((len(batch.seats), FIRST_CODE), PAD, np.int16)
        reply = np.hstack((text, self._last[batch.seats]))
        self._last[batch.seats] = batch.payload
        return Batch(batch.seats, reply)


class StandinDecode(_Standin):
    """Codes int16 `[N, K]` to PCM `[N, S]` that begins with them."""

    def step(self, batch: Batch) -> Batch:
        """As the port."""
        pcm = np.zeros((len(batch.seats), FRAME_SAMPLES), np.int16)
        pcm[:, :K] = np.maximum(batch.payload, 0)
        return Batch(batch.seats, pcm)
