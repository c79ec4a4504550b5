"""Laws of a streaming codec: offline, chunked, batched and masked, a seat hears and says the same."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paluku.codec.causal import ShallowCodec
from paluku.codec.native import NativeCodec, NativeCodecConfig, NetConfig
from paluku.codec.port import Codec
from paluku.codec.quantizer import QuantizerConfig, kmeans
from paluku.codec.semantic import SemanticConfig
from paluku.codec.soundstream import SoundStreamCodec
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.nn.state import State, leaves, put_, reset_, take

FRAME, K, V = 640, 4, 32
FRAMES = 8
SMALL = NetConfig(hidden=24, units=2)


def native() -> NativeCodec:
    torch.manual_seed(0)
    return NativeCodec(
        NativeCodecConfig(latent_dim=16, encoder=SMALL, decoder=SMALL, num_codebooks=K, codebook_size=V)
    )


def soundstream() -> SoundStreamCodec:
    torch.manual_seed(0)
    config = SoundStreamConfig(channels=4, feature_dim=8, num_codebooks=K, codebook_size=V)
    return SoundStreamCodec(config)


def semantic() -> SoundStreamCodec:
    """As it is shipped: a network for the first codebook, a beam for the others."""
    torch.manual_seed(0)
    said, quantizer = SemanticConfig(dim=4, hidden=8, units=2), QuantizerConfig(beam=4)
    config = SoundStreamConfig(
        channels=4, feature_dim=8, num_codebooks=K, codebook_size=V, semantic=said, quantizer=quantizer
    )
    return SoundStreamCodec(config)


def fitted(codec: ShallowCodec) -> Codec:
    """Random weights; codebooks of the latents' own size, so that codes vary."""
    latents = codec.latents(waves(8, frames=20)).detach()
    codec.quantizer.initialise_(latents)
    if isinstance(codec, SoundStreamCodec) and codec.semantic is not None:
        said = codec.semantic(latents).detach().transpose(1, 2).flatten(0, 1)
        codec.semantic.entries.copy_(kmeans(said, V, rounds=3, seed=0)[0])
    return codec.eval().requires_grad_(False)


def waves(batch: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    """Noise whose level changes from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(batch, 1, frames, generator=generator).repeat_interleave(FRAME, dim=-1)
    return torch.randn(batch, 1, frames * FRAME, generator=generator) * level


CODECS = {
    "native": fitted(native()),
    "soundstream": fitted(soundstream()),
    "semantic": fitted(semantic()),
}
of_each = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Up to rounding, which grows with the loudest sample: at random weights some codecs reach 90,000."""
    loudest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=max(1e-5, 1e-6 * loudest), rtol=1e-4)


@st.composite
def chunkings(draw: st.DrawFn) -> list[int]:
    cuts = draw(st.sets(st.integers(1, FRAMES - 1)))
    edges = [0, *sorted(cuts), FRAMES]
    return [end - start for start, end in pairwise(edges)]


def stream_encode(codec: Codec, state: State, wave: Tensor, chunks: list[int]) -> Tensor:
    everyone = torch.ones(len(wave), dtype=torch.bool)
    parts = wave.split([n * FRAME for n in chunks], dim=-1)
    return torch.cat([codec.encode_step(state, part, everyone) for part in parts], dim=-1)


def stream_decode(codec: Codec, state: State, codes: Tensor, chunks: list[int]) -> Tensor:
    everyone = torch.ones(len(codes), dtype=torch.bool)
    return torch.cat(
        [codec.decode_step(state, part, everyone) for part in codes.split(chunks, dim=-1)], dim=-1
    )


@of_each
@settings(max_examples=15, deadline=None)
@given(chunks=chunkings(), batch=st.integers(1, 4), seed=st.integers(0, 99))
def test_streaming_equals_offline_for_any_chunking(
    codec: Codec, chunks: list[int], batch: int, seed: int
) -> None:
    wave = waves(batch, seed=seed)
    codes = codec.encode(wave)
    assert torch.equal(stream_encode(codec, codec.init_encode_state(batch), wave, chunks), codes)
    decoded = stream_decode(codec, codec.init_decode_state(batch), codes, chunks)
    assert_same(decoded, codec.decode(codes))


@of_each
def test_random_codes_and_waves_exercise_every_codebook(codec: Codec) -> None:
    """Guards the laws above and below: equal outputs would mean little if all codes were equal."""
    codes = codec.encode(waves(4))
    assert all(len(codes[:, k].unique()) > V // 4 for k in range(K))


@of_each
@settings(max_examples=15, deadline=None)
@given(mask=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=FRAMES, max_size=FRAMES))
def test_ragged_seats_each_equal_their_own_offline_run(codec: Codec, mask: list[list[bool]]) -> None:
    wave = waves(3)
    encoding, decoding = codec.init_encode_state(3), codec.init_decode_state(3)
    heard: list[list[Tensor]] = [[], [], []]
    said: list[list[Tensor]] = [[], [], []]
    spoken: list[list[Tensor]] = [[], [], []]
    for tick, present in enumerate(mask):
        frame = wave[..., tick * FRAME : (tick + 1) * FRAME]
        codes = codec.encode_step(encoding, frame, torch.tensor(present))
        sound = codec.decode_step(decoding, codes, torch.tensor(present))
        for seat in range(3):
            if present[seat]:
                heard[seat].append(frame[seat])
                said[seat].append(codes[seat])
                spoken[seat].append(sound[seat])
    for seat in range(3):
        if heard[seat]:
            codes = codec.encode(torch.cat(heard[seat], dim=-1)[None])
            assert torch.equal(torch.cat(said[seat], dim=-1), codes[0])
            sound = torch.cat(spoken[seat], dim=-1)
            assert_same(sound, codec.decode(codes)[0])


@of_each
@pytest.mark.parametrize("frame", [1, 4, FRAMES - 1])
def test_nothing_before_a_change_hears_it(codec: Codec, frame: int) -> None:
    wave = waves(1)
    changed = wave.clone()
    changed[..., frame * FRAME :] *= -3
    codes, changed_codes = codec.encode(wave), codec.encode(changed)
    assert torch.equal(codes[..., :frame], changed_codes[..., :frame])
    assert not torch.equal(codes[..., frame:], changed_codes[..., frame:])
    sound, changed_sound = codec.decode(codes), codec.decode(changed_codes)
    assert torch.equal(sound[..., : frame * FRAME], changed_sound[..., : frame * FRAME])
    assert not torch.equal(sound[..., frame * FRAME :], changed_sound[..., frame * FRAME :])


def session(codec: Codec, others: Tensor, others_present: list[list[bool]]) -> tuple[Tensor, Tensor, list]:
    """Seat 1 of 3 says the same; its neighbours say `others` [2, 1, S] when they are present."""
    mine = waves(1, seed=7)
    encoding, decoding = codec.init_encode_state(3), codec.init_decode_state(3)
    codes, sound = [], []
    for tick, (left, right) in enumerate(others_present):
        part = slice(tick * FRAME, (tick + 1) * FRAME)
        frame = torch.cat([others[:1, :, part], mine[..., part], others[1:, :, part]])
        present = torch.tensor([left, True, right])
        codes.append(codec.encode_step(encoding, frame, present))
        sound.append(codec.decode_step(decoding, codes[-1], present)[1])
    kept = [take(encoding, 1), take(decoding, 1)]
    return torch.cat(codes, dim=-1)[1], torch.cat(sound, dim=-1), kept


@of_each
@settings(max_examples=10, deadline=None)
@given(
    present=st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=FRAMES, max_size=FRAMES),
    seed=st.integers(0, 99),
    gain=st.sampled_from([0.0, 1.0, 1e6, float("nan")]),
)
def test_a_seat_s_output_and_state_do_not_depend_on_its_neighbours(
    codec: Codec, present: list[list[bool]], seed: int, gain: float
) -> None:
    """Bit for bit, at the same number of seats; a neighbour's NaN included."""
    alone = session(codec, torch.zeros(2, 1, FRAMES * FRAME), [[False, False]] * FRAMES)
    among = session(codec, waves(2, seed=seed) * gain, present)
    assert torch.equal(alone[0], among[0])
    assert torch.equal(alone[1], among[1])
    for before, after in zip(alone[2], among[2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@of_each
def test_a_reset_seat_is_a_fresh_one_and_the_others_go_on(codec: Codec) -> None:
    wave, everyone = waves(2), torch.tensor([True, True])
    first, second = wave.split(FRAMES // 2 * FRAME, dim=-1)
    encoding, decoding = codec.init_encode_state(2), codec.init_decode_state(2)
    codec.decode_step(decoding, codec.encode_step(encoding, first, everyone), everyone)
    assert any(leaf[0].any() for leaf in leaves((encoding, decoding)))
    for state in (encoding, decoding):
        reset_(state, torch.tensor([True, False]))
    assert not any(leaf[0].any() for leaf in leaves((encoding, decoding)))
    codes = codec.encode_step(encoding, second, everyone)
    sound = codec.decode_step(decoding, codes, everyone)
    expected = torch.cat([codec.encode(second[:1]), codec.encode(wave[1:])[..., FRAMES // 2 :]])
    assert torch.equal(codes, expected)
    fresh = codec.decode(codes[:1])
    assert_same(sound[:1], fresh)
    goes_on = codec.decode(codec.encode(wave[1:]))[..., FRAMES // 2 * FRAME :]
    assert_same(sound[1:], goes_on)


@of_each
def test_a_seat_can_be_moved(codec: Codec) -> None:
    wave = waves(1)
    first, second = wave.split(FRAMES // 2 * FRAME, dim=-1)
    here, there = codec.init_encode_state(1), codec.init_encode_state(3)
    begun = codec.encode_step(here, first, torch.tensor([True]))
    put_(there, 2, take(here, 0))
    frame = torch.cat([torch.zeros(2, *second.shape[1:]), second])
    ended = codec.encode_step(there, frame, torch.tensor([False, False, True]))[2:]
    assert torch.equal(torch.cat([begun, ended], dim=-1), codec.encode(wave))


@of_each
def test_fewer_codebooks_decode_offline_and_streaming(codec: Codec) -> None:
    codes = codec.encode(waves(2))[:, :2]
    streamed = stream_decode(codec, codec.init_decode_state(2), codes, [3, 5])
    assert_same(streamed, codec.decode(codes))
    assert not torch.allclose(codec.decode(codes), codec.decode(codec.encode(waves(2))), atol=1e-3)
