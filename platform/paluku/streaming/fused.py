"""The three stages in one: PCM in, and all that they give in one row. No torch here."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from paluku.streaming.ports import FIRST_CODE, Batch, Conditions, History, Stage


class FusedRows(NamedTuple):
    """What `FusedStage.step` gives, part by part; all int16."""

    user_codes: np.ndarray  # [N, K], as Encode gave them
    reply: np.ndarray  # [N, 2 + K], as Converse
    pcm: np.ndarray  # [N, S], as Decode


class FusedStage:
    """Implements `Stage` by stepping Encode, Converse and Decode in turn, in one process."""

    def __init__(self, encode: Stage, converse: Stage, decode: Stage) -> None:
        sizes = (encode.num_seats, converse.num_seats, decode.num_seats)
        if len(set(sizes)) != 1:
            raise ValueError(f"the stages must have the same number of seats, not {sizes}")
        self._stages = (encode, converse, decode)

    @property
    def num_seats(self) -> int:
        """`B`."""
        return self._stages[0].num_seats

    @property
    def reach_frames(self) -> int:
        """The longest of the three."""
        return max(stage.reach_frames for stage in self._stages)

    def open(self, seat: int, conditions: Conditions) -> None:
        """Make a seat fresh."""
        for stage in self._stages:
            stage.open(seat, conditions)

    def adjust(self, seat: int, conditions: Conditions) -> None:
        """Change what a session asks for."""
        for stage in self._stages:
            stage.adjust(seat, conditions)

    def prime(self, seat: int, history: History) -> Iterator[None]:
        """One stage after the other; all of them for the session that has the seat now."""
        return chain.from_iterable([stage.prime(seat, history) for stage in self._stages])

    def step(self, batch: Batch) -> Batch:
        """PCM int16 `[N, S]` to int16 `[N, K + 2 + K + S]` (`split`); raises ValueError for a wrong batch."""
        encode, converse, decode = self._stages
        heard = encode.step(batch)
        spoken = converse.step(heard)
        sound = decode.step(Batch(batch.seats, np.ascontiguousarray(spoken.payload[:, FIRST_CODE:])))
        return Batch(batch.seats, np.hstack((heard.payload, spoken.payload, sound.payload)))

    def close(self, seat: int) -> None:
        """Forget a session."""
        for stage in self._stages:
            stage.close(seat)


def split(payload: np.ndarray, frame_samples: int) -> FusedRows:
    """Rows `[N, K + 2 + K + S]` in their parts, as views."""
    num_codebooks = (payload.shape[1] - FIRST_CODE - frame_samples) // 2
    user_codes, reply, pcm = np.split(payload, (num_codebooks, 2 * num_codebooks + FIRST_CODE), axis=1)
    return FusedRows(user_codes, reply, pcm)
