"""Mimi equals `transformers`' offline output, and obeys the laws of a stream."""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from paluku.codec.mimi import MimiCodec
from paluku.codec.mimi_nets import MimiConfig
from paluku.codec.port import Codec
from paluku.nn.state import leaves, put_, reset_, take
from paluku.torchaudio_cpu import prepare_torchaudio
from tests.fakes.mimi_file import SIZES, published_tensors

FRAME, FRAMES, K = 1920, 8, SIZES.num_codebooks


class Reference(NamedTuple):
    """A codec to stream, and the offline output that it must equal."""

    codec: MimiCodec
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mimi") / "model.safetensors"
    save_file(published_tensors(), path, metadata={"format": "pt"})
    return path


def of_transformers(published: Path, codec: MimiCodec) -> Reference:
    pytest.importorskip("transformers", reason="needs pip's transformers")
    prepare_torchaudio()
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import MimiConfig as TheirConfig
    from transformers import MimiModel

    sizes = TheirConfig(
        num_filters=4,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=24,
        sliding_window=6,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        codebook_size=32,
        num_quantizers=5,
        upsample_groups=16,
    )
    sizes.save_pretrained(published.parent)
    model = MimiModel.from_pretrained(published.parent).eval().requires_grad_(False)
    return Reference(codec, lambda wave: model.encode(wave)[0], lambda codes: model.decode(codes)[0])


@pytest.fixture(scope="module", params=["ours", "transformers"])
def reference(request: pytest.FixtureRequest, published: Path) -> Reference:
    """Our own offline output, and that of `transformers`' MimiModel, of the same file."""
    codec = MimiCodec.from_published(str(published), SIZES)
    ours = Reference(codec, codec.encode, codec.decode)
    return ours if request.param == "ours" else of_transformers(published, codec)


CODEC = MimiCodec.seeded(0, SIZES)


def waves(batch: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    """Noise whose level changes from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(batch, 1, frames, generator=generator).repeat_interleave(FRAME, dim=-1)
    return torch.randn(batch, 1, frames * FRAME, generator=generator) * level


def everyone(batch: int) -> Tensor:
    return torch.ones(batch, dtype=torch.bool)


def assert_same_sound(actual: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.02, "too quiet to tell"
    # Random weights may be loud: rounding grows with the sound.
    assert (actual - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))


@st.composite
def chunkings(draw: st.DrawFn) -> list[int]:
    cuts = draw(st.sets(st.integers(1, FRAMES - 1)))
    return [end - start for start, end in pairwise([0, *sorted(cuts), FRAMES])]


def test_it_is_a_codec_of_12_and_a_half_frames_a_second() -> None:
    codec: Codec = CODEC
    codes = codec.encode(waves(2, frames=3))
    assert codes.shape == (2, K, 3)
    assert codec.decode(codes).shape == (2, 1, 3 * FRAME)
    assert (codec.sample_rate_hz, codec.frame_samples, codec.frame_rate_hz) == (24_000, 1920, 12.5)
    assert isinstance(codec, Codec)


def test_waves_exercise_every_codebook(reference: Reference) -> None:
    """Guards the laws below: equal outputs would mean little if all codes were equal."""
    for codec in (reference.codec, CODEC):
        codes = codec.encode(waves(4))
        assert all(len(codes[:, k].unique()) > 6 for k in range(K))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(chunks=chunkings(), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_streaming_equals_offline_for_any_chunking(
    reference: Reference, chunks: list[int], batch: int, seed: int
) -> None:
    codec, wave, present = reference.codec, waves(batch, seed=seed), everyone(batch)
    expected = reference.encode(wave)
    encoding, decoding = codec.init_encode_state(batch), codec.init_decode_state(batch)
    parts = wave.split([n * FRAME for n in chunks], dim=-1)
    codes = torch.cat([codec.encode_step(encoding, part, present) for part in parts], dim=-1)
    assert torch.equal(codes, expected)
    sound = [codec.decode_step(decoding, part, present) for part in codes.split(chunks, dim=-1)]
    assert_same_sound(torch.cat(sound, dim=-1), reference.decode(expected))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(mask=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=FRAMES, max_size=FRAMES))
def test_ragged_seats_each_equal_their_own_offline_run(reference: Reference, mask: list[list[bool]]) -> None:
    """Seats begin at different ticks: each has a first frame of its own, which the downsampling repeats."""
    codec, wave, present = reference.codec, waves(3), torch.tensor(mask)
    encoding, decoding = codec.init_encode_state(3), codec.init_decode_state(3)
    frames = wave.split(FRAME, dim=-1)
    codes = [codec.encode_step(encoding, frame, here) for frame, here in zip(frames, present, strict=True)]
    sound = [codec.decode_step(decoding, said, here) for said, here in zip(codes, present, strict=True)]
    for seat in range(3):
        ticks = [tick for tick in range(FRAMES) if mask[tick][seat]]
        if ticks:
            heard = torch.cat([frames[tick][seat] for tick in ticks], dim=-1)[None]
            expected = reference.encode(heard)
            assert torch.equal(torch.cat([codes[tick][seat] for tick in ticks], dim=-1)[None], expected)
            spoken = torch.cat([sound[tick][seat] for tick in ticks], dim=-1)[None]
            assert_same_sound(spoken, reference.decode(expected))


def test_fewer_codebooks_decode_offline_and_streaming(reference: Reference) -> None:
    codec, codes = reference.codec, reference.encode(waves(2))
    for depth in (1, 3):
        state, few = codec.init_decode_state(2), codes[:, :depth]
        streamed = [codec.decode_step(state, part, everyone(2)) for part in few.split([3, 5], dim=-1)]
        assert_same_sound(torch.cat(streamed, dim=-1), reference.decode(few))
        assert (codec.decode(few) - codec.decode(codes)).abs().max() > 1e-2


@pytest.mark.parametrize("gain", [0.0, 1e6, float("nan")])
def test_a_seat_does_not_depend_on_its_neighbour(gain: float) -> None:
    def session(other: Tensor, present: bool) -> tuple[list[Tensor], list[Tensor]]:
        encoding, decoding = CODEC.init_encode_state(2), CODEC.init_decode_state(2)
        mask, given_out = torch.tensor([present, True]), []
        for frame, theirs in zip(waves(1, seed=3).split(FRAME, -1), other.split(FRAME, -1), strict=True):
            codes = CODEC.encode_step(encoding, torch.cat([theirs, frame]), mask)
            given_out += [codes[1], CODEC.decode_step(decoding, codes, mask)[1]]
        return given_out, take((encoding, decoding), 1)

    alone = session(torch.zeros(1, 1, FRAMES * FRAME), present=False)
    among = session(waves(1, seed=4) * gain, present=True)
    for before, after in zip(alone, among, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_reset_seat_is_a_fresh_one_and_a_seat_can_be_moved() -> None:
    """After half of the frames: seat 0 begins anew, and what seat 1 was goes on in seat 2 of other states."""
    wave, half = waves(2), FRAMES // 2
    first, second = wave.split(half * FRAME, dim=-1)
    here = CODEC.init_encode_state(2), CODEC.init_decode_state(2)
    there = CODEC.init_encode_state(3), CODEC.init_decode_state(3)
    CODEC.decode_step(here[1], CODEC.encode_step(here[0], first, everyone(2)), everyone(2))
    put_(there, 2, take(here, 1))
    put_(there, 0, take(here, 0))
    reset_(there, torch.tensor([True, False, False]))
    assert not any(leaf[0].any() for leaf in leaves(there))
    mask, frames = torch.tensor([True, False, True]), torch.cat([second[:1], second])
    codes = CODEC.encode_step(there[0], frames, mask)
    expected = CODEC.encode(wave[1:])
    assert torch.equal(codes[:1], CODEC.encode(second[:1]))
    assert torch.equal(codes[2:], expected[..., half:])
    sound = CODEC.decode_step(there[1], codes, mask)
    assert_same_sound(sound[:1], CODEC.decode(codes[:1]))
    assert_same_sound(sound[2:], CODEC.decode(expected)[..., half * FRAME :])


def test_a_session_of_years_is_as_exact_as_a_fresh_one() -> None:
    """At latent 700,000,000 a stream that has forgotten its beginning says what a young one says."""
    reach, frames = CODEC.decode_reach_frames, CODEC.decode_reach_frames + 4
    codes = torch.randint(32, (1, K, frames), generator=torch.Generator().manual_seed(0))
    old = CODEC.init_decode_state(1)
    old.transformer.position.add_((SIZES.window + 1) * 10**8)
    sound = CODEC.decode_step(old, codes, everyone(1))
    assert_same_sound(sound[..., reach * FRAME :], CODEC.decode(codes)[..., reach * FRAME :])


def test_reach_is_how_far_back_an_output_depends() -> None:
    """By gradients: the last frame depends on the frame `reach` before it, and on none before that."""
    codec = MimiCodec.seeded(0, SIZES.model_copy(update={"window": 4})).double()
    frames = 12
    assert max(codec.encode_reach_frames, codec.decode_reach_frames) < frames - 2
    wave = torch.randn(1, 1, frames * FRAME, dtype=torch.float64).requires_grad_()
    (heard,) = torch.autograd.grad(codec.latents(wave)[..., -1].sum(), wave)
    first = int(heard.flatten().nonzero()[0]) // FRAME
    assert frames - 1 - first == codec.encode_reach_frames
    latents = torch.randn(1, 16, frames, dtype=torch.float64).requires_grad_()
    sound = codec.decoder(codec.decoder_transformer(codec.upsample(latents)))
    (said,) = torch.autograd.grad(sound[..., -FRAME:].sum(), latents)
    first = int(said.abs().sum(dim=1).flatten().nonzero()[0])
    assert frames - 1 - first == codec.decode_reach_frames


def test_the_published_reach_is_the_windows_of_eight_layers() -> None:
    """8 windows of 249 earlier latents are 996 frames, resampling is 1.

    The encoder's convolutions see 3,320 samples back (1.7 frames), the decoder's 7,156 (3.7 frames).
    """
    with torch.device("meta"):
        codec = MimiCodec(MimiConfig())
    assert codec.encode_reach_frames == 999
    assert codec.decode_reach_frames == 1001
