import itertools

import numpy as np
import pytest
import torch

from paluku.evals import speed
from paluku.evals.speed import one_thread, real_time_factors
from tests.fakes.codec import FakeCodec

SPEECH = np.random.default_rng(0).uniform(-1, 1, 3 * 640).astype(np.float32)


class Watched(FakeCodec):
    """Keeps what its steps were given."""

    def __init__(self) -> None:
        super().__init__(num_codebooks=4, codebook_size=32)
        self.waves: list[torch.Tensor] = []
        self.depths: list[tuple[int, ...]] = []

    def encode_step(self, state, wave, exec_mask):
        self.waves.append(wave)
        return super().encode_step(state, wave, exec_mask)

    def decode_step(self, state, codes, exec_mask):
        self.depths.append(tuple(codes.shape))
        return super().decode_step(state, codes, exec_mask)


def ticks(*first_steps_s: float):
    """A clock of which every step takes 2 ms, but for the first ones."""
    times = iter(itertools.chain(first_steps_s, itertools.repeat(0.002)))
    now = 0.0
    while True:
        yield now
        now += next(times)
        yield now


def test_a_stream_costs_the_median_step_over_the_frame_without_the_warm_up() -> None:
    clock = ticks(*[9.0] * speed.WARM_UP_FRAMES, 0.5)  # one timed step is odd
    found = real_time_factors(Watched(), SPEECH, [1, 4], frames=7, clock=lambda: next(clock))
    assert found.encode == pytest.approx(0.002 / 0.04)
    assert found.decode == {1: pytest.approx(0.05), 4: pytest.approx(0.05)}


def test_a_batch_costs_each_stream_its_part() -> None:
    clock = ticks()
    found = real_time_factors(Watched(), SPEECH, [4], seats=16, frames=5, clock=lambda: next(clock))
    assert found.encode == pytest.approx(0.05 / 16)
    assert found.decode[4] == pytest.approx(0.05 / 16)


def test_single_frames_of_repeated_speech_go_in_step_by_step() -> None:
    clock = ticks()
    codec = Watched()
    real_time_factors(codec, SPEECH, [3], seats=2, frames=5, clock=lambda: next(clock))
    heard = torch.cat(codec.waves, dim=-1)
    assert len(codec.waves) == speed.WARM_UP_FRAMES + 5
    assert codec.depths == 10 * [(2, 3, 1)]
    assert np.array_equal(heard[0, 0].numpy(), np.tile(SPEECH, 4)[: heard.shape[-1]])
    assert np.array_equal(heard[1, 0].numpy(), np.roll(np.tile(SPEECH, 6), -960)[: heard.shape[-1]])


def test_a_very_slow_codec_is_not_timed_to_the_end() -> None:
    codec = Watched()
    clock = ticks(*[speed.MOST_S] * 1_000)
    found = real_time_factors(codec, SPEECH, [4], frames=500, clock=lambda: next(clock))
    assert len(codec.waves) == 2 * speed.WARM_UP_FRAMES + 1
    assert found.encode == speed.MOST_S / 0.04


def test_the_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
