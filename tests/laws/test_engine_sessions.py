"""Laws of the engine: a session hears what it would hear alone, whoever else is there.

The stages are the real ones. Encode and Decode run the fake codec, which carries state from frame to
frame and is exact; Converse runs a tiny S2S model with random weights.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.errors import SeatsExhausted
from paluku.s2s.model import S2SModel
from paluku.streaming.engine import Engine, Reply
from paluku.streaming.ports import Conditions
from paluku.streaming.stages import ConverseStage, DecodeStage, EncodeStage
from tests.fakes.codec import FakeCodec
from tests.fakes.s2s import K, V, tiny_s2s

FRAME = 640
CODEC = FakeCodec(K, V)
MODEL: S2SModel = tiny_s2s()


def engine(num_seats: int) -> Engine:
    return Engine(
        EncodeStage(CODEC, num_seats), ConverseStage(MODEL, num_seats), DecodeStage(CODEC, num_seats)
    )


def speech(seed: int, frames: int) -> np.ndarray:
    """Noise, int16 `[frames, S]`."""
    noise = torch.randn(frames, FRAME, generator=torch.Generator().manual_seed(seed))
    return (noise * 8000).clamp(-32_000, 32_000).short().numpy()


WHO = [
    Conditions(voice="arjun", style="happy", seed=1),
    Conditions(voice="lakshmi", style="thinking", seed=2, temperature=0.5, top_k=3),
    Conditions(voice="priya", style="laugh", seed=3, temperature=1.2),
]


def alone(who: int, frames: int) -> list[Reply]:
    """What a session hears when nobody else is there, in an engine of one seat."""
    one = engine(1)
    seat = one.open(WHO[who])
    return [one.tick({seat: pcm})[seat] for pcm in speech(who, frames)]


def same(heard: Sequence[Reply], expected: Sequence[Reply]) -> bool:
    return len(heard) == len(expected) and all(
        np.array_equal(a.pcm, b.pcm) and a[1:] == b[1:] for a, b in zip(heard, expected, strict=True)
    )


def test_the_stages_make_a_reply_that_depends_on_who_speaks_and_asks() -> None:
    # Without this the laws below could hold for an engine that is deaf.
    heard = [alone(who, 12) for who in range(3)]
    assert all(not replies[0].present and replies[1].present for replies in heard)
    assert all(not replies[0].pcm.any() and replies[-1].pcm.any() for replies in heard)
    assert not same(heard[0], heard[1])
    one = engine(1)
    seat = one.open(WHO[0])
    other_words = [one.tick({seat: pcm})[seat] for pcm in speech(99, 12)]
    assert not same(other_words, heard[0])


@settings(max_examples=12, deadline=None)
@given(
    num_seats=st.integers(3, 5),
    joins=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    gaps=st.lists(st.sets(st.integers(0, 2)), min_size=12, max_size=12),
)
def test_a_session_does_not_depend_on_the_others_nor_on_when_it_joined(
    num_seats: int, joins: tuple[int, int, int], gaps: list[set[int]]
) -> None:
    # Three sessions join at different ticks and miss different ones, in engines of different sizes.
    shared, seats, heard = engine(num_seats), dict[int, int](), {who: list[Reply]() for who in range(3)}
    for tick, missing in enumerate(gaps):
        for who in range(3):
            if joins[who] == tick:
                seats[who] = shared.open(WHO[who])
        frames = {seat: speech(who, 12)[len(heard[who])] for who, seat in seats.items() if who not in missing}
        replies = shared.tick(frames)
        for who, seat in seats.items():
            if who not in missing:
                heard[who].append(replies[seat])
    for who in range(3):
        assert same(heard[who], alone(who, len(heard[who])))


def test_a_seat_used_again_is_as_fresh_as_a_new_one() -> None:
    reused = engine(1)
    for who in (0, 1, 2, 0):
        seat = reused.open(WHO[who])
        assert same([reused.tick({seat: pcm})[seat] for pcm in speech(who, 8)], alone(who, 8))
        reused.close(seat)


def test_leaving_does_not_disturb_who_stays() -> None:
    shared = engine(2)
    leaves, stays = shared.open(WHO[0]), shared.open(WHO[1])
    heard = []
    for tick, pcm in enumerate(speech(1, 10)):
        if tick == 4:
            shared.close(leaves)
        heard.append(shared.tick({stays: pcm} | ({leaves: pcm} if tick < 4 else {}))[stays])
    assert same(heard, alone(1, 10))


def test_seats_run_out_and_come_back() -> None:
    full = engine(2)
    first, _ = full.open(WHO[0]), full.open(WHO[1])
    with pytest.raises(SeatsExhausted):
        full.open(WHO[2])
    full.close(first)
    assert full.open(WHO[2]) == first
