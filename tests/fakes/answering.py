"""Stages without a model that hold a conversation: loud sound is answered by a second of tone and a word."""

from collections.abc import Iterator

import numpy as np

from paluku.streaming.ports import FIRST_CODE, Batch, History
from paluku.tokens.text import PAD, default_tokenizer
from tests.fakes.stages import FRAME_SAMPLES, FakeReplica, K, _FakeStage

LOUD = 500  # mean of a frame's samples
PAUSE_FRAMES = 8
REPLY_FRAMES = 25
WORD = "నమస్తే"
TONE = 8_000
HZ, RATE_HZ = 400, 16_000


class AnsweringEncode(_FakeStage):
    """The first code of a frame is how loud it is."""

    def step(self, batch: Batch) -> Batch:
        self._check(batch, FRAME_SAMPLES)
        codes = np.zeros((len(batch.seats), K), np.int16)
        codes[:, 0] = np.abs(batch.payload.astype(np.int32)).mean(axis=1)
        return Batch(batch.seats, codes)


class AnsweringConverse(_FakeStage):
    """Answers once the user has been silent for a while, and stops when told again."""

    def __init__(self, num_seats: int) -> None:
        super().__init__(num_seats)
        self._word = default_tokenizer().encode(WORD)
        self._silent_for = np.full(num_seats, -1)  # frames since the user spoke; -1: nothing to answer
        self._said = np.full(num_seats, -1)  # frames of the reply said; -1: none

    def open(self, seat: int, conditions) -> None:
        super().open(seat, conditions)
        self._silent_for[seat] = self._said[seat] = -1

    def prime(self, seat: int, history: History) -> Iterator[None]:
        for codes, reply in zip(history.user_codes, history.reply, strict=True):
            self._row(seat, int(codes[0]))
            if reply[FIRST_CODE] == 0:
                self._said[seat] = -1  # it was not heard
        yield

    def step(self, batch: Batch) -> Batch:
        self._check(batch, K)
        rows = [
            self._row(seat, int(codes[0])) for seat, codes in zip(batch.seats, batch.payload, strict=True)
        ]
        return Batch(batch.seats, np.array(rows, np.int16))

    def _row(self, seat: int, loudness: int) -> list[int]:
        if loudness > LOUD:
            self._silent_for[seat] = 0
        elif self._silent_for[seat] >= 0:
            self._silent_for[seat] += 1
        if self._silent_for[seat] >= PAUSE_FRAMES:
            self._silent_for[seat], self._said[seat] = -1, 0
        said = int(self._said[seat])
        if said < 0:
            return [PAD, PAD, *[0] * K]
        self._said[seat] = said + 1 if said + 1 < REPLY_FRAMES else -1
        return [self._word[said] if said < len(self._word) else PAD, PAD, TONE, *[0] * (K - 1)]


class AnsweringDecode(_FakeStage):
    """A tone as loud as the first code says."""

    def step(self, batch: Batch) -> Batch:
        self._check(batch, K)
        tone = np.sin(2 * np.pi * HZ * np.arange(FRAME_SAMPLES) / RATE_HZ)  # whole periods a frame
        return Batch(batch.seats, (batch.payload[:, :1] * tone).astype(np.int16))


KINDS = {"encode": AnsweringEncode, "converse": AnsweringConverse, "decode": AnsweringDecode}


def answering_replica(kind: str, num_seats: int) -> FakeReplica:
    """A replica over one of them."""
    replica = FakeReplica(kind, num_seats)
    (bundle,) = replica.bundles
    replica.bundles[bundle] = KINDS[kind](num_seats)
    return replica
