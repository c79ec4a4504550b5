"""The fake codec keeps the port's laws, or the tests that lean on it prove nothing."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.codec.port import Codec
from paluku.nn.state import reset_
from tests.fakes.codec import FakeCodec

CODEC = FakeCodec(num_codebooks=4, codebook_size=32)


def noise(batch: int, frames: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, frames * CODEC.frame_samples, generator=generator) * 16 - 8


def codes_of(batch: int, frames: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 32, (batch, 4, frames), generator=torch.Generator().manual_seed(seed))


def test_it_is_a_codec() -> None:
    assert isinstance(CODEC, Codec)


def test_codes_survive_decoding_and_silence_is_zero() -> None:
    codes = codes_of(2, 9, seed=0)
    assert torch.equal(CODEC.encode(CODEC.decode(codes)), codes)
    assert not CODEC.encode(torch.zeros(1, 1, 1280)).any()
    assert not CODEC.decode(torch.zeros(1, 4, 2, dtype=torch.int64)).any()


def test_codes_use_the_codebook() -> None:
    assert len(CODEC.encode(noise(2, 20, seed=1)).unique()) > 16


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_streaming_equals_offline_for_any_chunking(cuts: list[int], seed: int) -> None:
    wave, codes = noise(2, sum(cuts), seed), codes_of(2, sum(cuts), seed)
    encode_state, decode_state = CODEC.init_encode_state(2), CODEC.init_decode_state(2)
    everyone = torch.ones(2, dtype=torch.bool)
    frame = CODEC.frame_samples
    coded = [
        CODEC.encode_step(encode_state, chunk, everyone)
        for chunk in wave.split([cut * frame for cut in cuts], dim=-1)
    ]
    decoded = [CODEC.decode_step(decode_state, chunk, everyone) for chunk in codes.split(cuts, dim=-1)]
    assert torch.equal(torch.cat(coded, dim=-1), CODEC.encode(wave))
    assert torch.equal(torch.cat(decoded, dim=-1), CODEC.decode(codes))


def test_a_masked_seat_keeps_its_state_and_a_reset_one_is_fresh() -> None:
    codes, state = codes_of(2, 2, seed=3), CODEC.init_decode_state(2)
    CODEC.decode_step(state, codes[..., :1], torch.tensor([True, False]))
    later = CODEC.decode_step(state, codes[..., 1:], torch.tensor([True, True]))
    assert torch.equal(later[0], CODEC.decode(codes)[0, :, CODEC.frame_samples :])
    assert torch.equal(later[1], CODEC.decode(codes[..., 1:])[1])
    reset_(state, torch.tensor([True, False]))
    again = CODEC.decode_step(state, codes[..., :1], torch.tensor([True, True]))
    assert torch.equal(again[0], CODEC.decode(codes[..., :1])[0])
