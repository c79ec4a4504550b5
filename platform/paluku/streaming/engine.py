"""The engine: frame in, frame out, for many sessions at once. It knows no Ray and no sockets."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from paluku.streaming.ports import Batch, Conditions, Stage
from paluku.streaming.seats import SeatTable


class Reply(NamedTuple):
    """What one frame of the user's gave."""

    pcm: np.ndarray  # int16 [S]; silence when not `present`
    text_token: int
    present: bool  # whether there was a reply frame to decode; not at a session's first step


class Engine:
    """Three stages in one process, and the seats they share. Law: sessions do not hear each other."""

    def __init__(self, encode: Stage, converse: Stage, decode: Stage) -> None:
        sizes = (encode.num_seats, converse.num_seats, decode.num_seats)
        if len(set(sizes)) != 1:
            raise ValueError(f"the stages must have the same number of seats, not {sizes}")
        self._stages = (encode, converse, decode)
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
        seat = self._seats.lease()
        for stage in self._stages:
            stage.open(seat, conditions)
        self._seats.opened(seat)
        return seat

    def tick(self, frames: Mapping[int, np.ndarray]) -> dict[int, Reply]:
        """One frame (int16 `[S]`) of some seats in, the reply frame of each of them out.

        Raises:
            ValueError: when a seat is not open, or a frame has another shape.
        """
        if not frames:
            return {}
        encode, converse, decode = self._stages
        spoken = converse.step(encode.step(to_batch(frames)))
        return dict(zip(frames, replies(spoken, decode.step(reply_codes(spoken))), strict=True))

    def close(self, seat: int) -> None:
        """End a session; its seat may be given to another at once."""
        self._seats.closing(seat)
        for stage in self._stages:
            stage.close(seat)
        self._seats.release(seat)


def to_batch(frames: Mapping[int, np.ndarray]) -> Batch:
    """Frames (int16 `[S]`) by seat, as the message Encode takes."""
    return Batch(np.fromiter(frames, np.int32, len(frames)), np.stack(list(frames.values())))


def reply_codes(spoken: Batch) -> Batch:
    """What Decode takes from what Converse gave: `[N, K]` without the text token of each row."""
    return Batch(spoken.seats, np.ascontiguousarray(spoken.payload[:, 1:]))


def replies(spoken: Batch, decoded: Batch) -> list[Reply]:
    """Converse's tokens and Decode's sound, seat by seat, in the batch's order."""
    return [
        Reply(pcm, int(tokens[0]), bool(tokens[1] >= 0))
        for tokens, pcm in zip(spoken.payload, decoded.payload, strict=True)
    ]
