"""The engine: frame in, frame out, for many sessions at once. It knows no Ray and no sockets."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from paluku.streaming.fused import FusedStage, split
from paluku.streaming.ports import FIRST_CODE, OUR_TEXT, USER_TEXT, Batch, Conditions, Stage
from paluku.streaming.seats import SeatTable


class Reply(NamedTuple):
    """What one frame of the user's gave."""

    pcm: np.ndarray  # int16 [S]; silence when not `present`
    text_token: int
    user_text_token: int  # what the model has understood of the user
    present: bool  # whether there was a reply frame to decode; not at a session's first step


class Engine:
    """Three stages in one process, and the seats they share. Law: sessions do not hear each other."""

    def __init__(self, encode: Stage, converse: Stage, decode: Stage) -> None:
        self._stage = FusedStage(encode, converse, decode)
        self._seats = SeatTable(encode.num_seats)

    @property
    def num_seats(self) -> int:
        """How many sessions fit."""
        return self._seats.num_seats

    def open(self, conditions: Conditions) -> int:
        """Seat a new session.

        Raises:
            SeatsExhausted: when no seat is free.
        """
        seat = self._seats.take()
        self._stage.open(seat, conditions)
        return seat

    def tick(self, frames: Mapping[int, np.ndarray]) -> dict[int, Reply]:
        """One frame (int16 `[S]`) of some seats in, the reply frame of each of them out.

        Raises:
            ValueError: when a seat is not open, or a frame has another shape.
        """
        if not frames:
            return {}
        batch = to_batch(frames)
        rows = split(self._stage.step(batch).payload, batch.payload.shape[1])
        return {
            seat: Reply(pcm, int(reply[OUR_TEXT]), int(reply[USER_TEXT]), bool(reply[FIRST_CODE] >= 0))
            for seat, reply, pcm in zip(frames, rows.reply, rows.pcm, strict=True)
        }

    def close(self, seat: int) -> None:
        """End a session; its seat may be given to another at once."""
        self._stage.close(seat)
        self._seats.release(seat)


def to_batch(frames: Mapping[int, np.ndarray]) -> Batch:
    """Frames (int16 `[S]`) by seat, as the message Encode takes."""
    return Batch(np.fromiter(frames, np.int32, len(frames)), np.stack(list(frames.values())))
