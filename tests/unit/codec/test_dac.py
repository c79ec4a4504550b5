"""DAC streamed is the library's offline DAC, moved by a lookahead that its gradients confirm."""

import warnings
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paluku.codec.dac import PUBLISHED, DacCodec, DacConfig
from paluku.codec.noncausal import Kinds, Place
from paluku.codec.port import Codec
from paluku.errors import CheckpointError
from paluku.nn.state import leaves, put_, reset_, take
from paluku.torchaudio_cpu import prepare_torchaudio

K, V = 3, 16
FRAMES = 16
# What is asked for, and what rounding leaves in double precision.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}
# The published strides: 16 and 24 kHz share theirs, one of which is odd; 44.1 kHz has even ones only.
STRIDES = {16_000: (2, 4, 5, 8), 24_000: (2, 4, 5, 8), 44_100: (2, 4, 8, 8)}


def config(rate: int = 24_000, strides: tuple[int, ...] | None = None) -> DacConfig:
    """Published strides, few channels."""
    strides = strides or STRIDES[rate]
    return DacConfig(
        encoder_dim=2,
        encoder_rates=strides,
        decoder_dim=2 * 2 ** len(strides),
        decoder_rates=strides[::-1],
        n_codebooks=K,
        codebook_size=V,
        codebook_dim=4,
        sample_rate=rate,
    )


@cache
def make_codec(rate: int = 24_000, dtype: torch.dtype = torch.float32) -> DacCodec:
    return DacCodec.seeded(rate, config(rate)).to(dtype)


def waves(codec: DacCodec, batch: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(batch, 1, frames * codec.frame_samples, generator=generator, dtype=torch.float64)
    return wave.to(next(codec.parameters()).dtype)


def some_codes(batch: int, frames: int = FRAMES, k: int = K) -> Tensor:
    return torch.randint(V, (batch, k, frames), generator=torch.Generator().manual_seed(1))


@st.composite
def chunkings(draw: st.DrawFn) -> list[int]:
    edges = [0, *sorted(draw(st.sets(st.integers(1, FRAMES - 1)))), FRAMES]
    return [end - start for start, end in pairwise(edges)]


def stream_encode(codec: DacCodec, wave: Tensor, chunks: list[int]) -> Tensor:
    state, everyone = codec.init_encode_state(len(wave)), torch.ones(len(wave), dtype=torch.bool)
    parts = wave.split([n * codec.frame_samples for n in chunks], dim=-1)
    return torch.cat([codec.encode_step(state, part, everyone) for part in parts], dim=-1)


def stream_decode(codec: DacCodec, codes: Tensor, chunks: list[int]) -> Tensor:
    state, everyone = codec.init_decode_state(len(codes)), torch.ones(len(codes), dtype=torch.bool)
    parts = [codec.decode_step(state, part, everyone) for part in codes.split(chunks, dim=-1)]
    return torch.cat(parts, dim=-1)


def assert_same_codes_later(codec: DacCodec, streamed: Tensor, offline: Tensor) -> None:
    late = codec.encode_lookahead_frames
    assert torch.equal(streamed[..., late:], offline[..., : max(0, offline.shape[-1] - late)])


def assert_same_wave_later(codec: DacCodec, streamed: Tensor, offline: Tensor) -> None:
    late = codec.decode_lookahead_frames * codec.frame_samples
    expected = offline[..., : max(0, offline.shape[-1] - late)]
    torch.testing.assert_close(streamed[..., late:], expected, atol=TOLERANCE[streamed.dtype], rtol=0)
    assert not streamed[..., :late].any()


@pytest.mark.parametrize("rate", [24_000, 44_100])
@settings(max_examples=8)
@given(chunks=chunkings(), batch=st.integers(1, 3))
def test_streamed_codes_are_offline_s_later(rate: int, chunks: list[int], batch: int) -> None:
    """In double precision, where two entries are never equally near: in single, rounding may turn a tie."""
    codec = make_codec(rate, torch.float64)
    wave = waves(codec, batch)
    assert_same_codes_later(codec, stream_encode(codec, wave, chunks), codec.encode(wave))


@pytest.mark.parametrize(
    ("rate", "dtype"), [(24_000, torch.float64), (24_000, torch.float32), (44_100, torch.float64)]
)
@settings(max_examples=6)
@given(chunks=chunkings(), batch=st.integers(1, 3), k=st.integers(1, K))
def test_streamed_waves_are_offline_s_later(
    rate: int, dtype: torch.dtype, chunks: list[int], batch: int, k: int
) -> None:
    codec, codes = make_codec(rate, dtype), some_codes(batch, k=k)
    assert_same_wave_later(codec, stream_decode(codec, codes, chunks), codec.decode(codes))


def test_the_laws_above_are_about_something() -> None:
    """Codes vary, and silence at the beginning is not silence as before: each layer begins with zeros."""
    codec = make_codec()
    codes = codec.encode(waves(codec, 4))
    assert all(len(codes[:, k].unique()) > V // 4 for k in range(K))
    latents = codec.model.encoder(torch.zeros(1, 1, 40 * codec.frame_samples))
    assert (latents[..., 0] - latents[..., 20]).abs().max() > 0.1
    said = codec.decode(torch.zeros(1, K, 40, dtype=torch.int64)).unflatten(-1, (40, -1))
    assert (said[..., 0, :] - said[..., 20, :]).abs().max() > 0.1
    assert 0.1 < codec.decode(some_codes(2)).std() < 0.6


@pytest.mark.parametrize("seed", [0, 1])
def test_ragged_seats_each_equal_their_own_offline_run(seed: int) -> None:
    codec = make_codec(dtype=torch.float64)
    ticks, frame = 22, codec.frame_samples
    wave, codes = waves(codec, 3, ticks), some_codes(3, ticks)
    present = torch.rand(ticks, 3, generator=torch.Generator().manual_seed(seed)) < torch.tensor(
        [0.9, 0.7, 0.6]
    )
    encoding, decoding = codec.init_encode_state(3), codec.init_decode_state(3)
    coded, said = [], []
    for tick in range(ticks):
        part = slice(tick * frame, (tick + 1) * frame)
        coded.append(codec.encode_step(encoding, wave[..., part], present[tick]))
        said.append(codec.decode_step(decoding, codes[..., tick : tick + 1], present[tick]))
    for seat in range(3):
        here = present[:, seat]
        heard = wave[seat].unflatten(-1, (ticks, frame))[:, here].flatten(1)[None]
        assert_same_codes_later(codec, torch.stack(coded)[here, seat, :, 0].T[None], codec.encode(heard))
        spoken = torch.stack(said)[here, seat].transpose(0, 1).flatten(1)[None]
        assert_same_wave_later(codec, spoken, codec.decode(codes[seat : seat + 1, :, here]))


def frames_ahead(gradient: Tensor, frame: int, frame_length: int) -> int:
    """How many frames after `frame` the last input that mattered lies."""
    return int(gradient.abs().sum(dim=(0, 1)).nonzero().max()) // frame_length - frame


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_the_lookaheads_are_what_the_library_s_gradients_show(rate: int) -> None:
    codec, frame = make_codec(rate, torch.float64), 20
    wave = waves(codec, 1, 40).requires_grad_()
    codec.model.encoder(wave)[..., frame].sum().backward()
    assert wave.grad is not None
    assert codec.encode_lookahead_frames == frames_ahead(wave.grad, frame, codec.frame_samples)
    latents = torch.randn(1, codec.model.latent_dim, 40, dtype=torch.float64, requires_grad=True)
    samples = slice(frame * codec.frame_samples, (frame + 1) * codec.frame_samples)
    codec.model.decoder(latents)[..., samples].sum().backward()
    assert latents.grad is not None
    assert codec.decode_lookahead_frames == frames_ahead(latents.grad, frame, 1)


@pytest.mark.parametrize(("rate", "latency_ms"), [(16_000, 360.0), (24_000, 240.0), (44_100, 208.98)])
def test_latency_of_the_published_sizes(rate: int, latency_ms: float) -> None:
    """Worked out by hand for 24 kHz, the encoder in samples, then in steps of each level:
    3 + 39, up 22; + 39, up 16; + 39, up 12; + 39, up 7; + 1 = 8 frames. Decoder: 3141 samples, 9.8 frames."""
    codec = make_codec(rate)
    assert (codec.encode_lookahead_frames, codec.decode_lookahead_frames) == (8, 10)
    assert codec.streaming_latency_ms == pytest.approx(latency_ms, abs=0.01)


@pytest.mark.parametrize("strides", [(2, 3), (3, 5), (2, 4)])
def test_the_library_is_aligned(strides: tuple[int, ...]) -> None:
    """`delay_samples` is 0: over a frame, a sample of the round trip hears as far back as ahead."""
    codec = DacCodec.seeded(0, config(strides=strides)).double()
    hop, frames = codec.frame_samples, 240
    offsets = []
    for sample in range(frames // 2 * hop, (frames // 2 + 1) * hop):
        wave = waves(codec, 1, frames).requires_grad_()
        codec.model.decoder(codec.model.encoder(wave))[0, 0, sample].backward()
        assert wave.grad is not None
        heard = wave.grad[0, 0].nonzero()
        assert 0 < heard.min() < heard.max() < frames * hop - 1, "the wave is too short for this test"
        offsets.append(float(heard.min() + heard.max()) / 2 - sample)
    assert abs(sum(offsets) / hop) < 0.51
    assert codec.delay_samples == 0


def test_after_its_reach_a_stream_begun_in_the_middle_is_as_if_always_there() -> None:
    codec, everyone = make_codec(dtype=torch.float64), torch.tensor([True])
    frame, frames = codec.frame_samples, 40
    wave, codes = waves(codec, 1, frames), some_codes(1, frames)
    reach = codec.encode_reach_frames
    late = codec.init_encode_state(1)
    codec.encode_step(late, wave[..., : reach * frame], everyone)
    always = codec.init_encode_state(1)
    codec.encode_step(always, waves(codec, 1, 7, seed=3), everyone)
    codec.encode_step(always, wave[..., : reach * frame], everyone)
    rest = wave[..., reach * frame :]
    assert torch.equal(codec.encode_step(late, rest, everyone), codec.encode_step(always, rest, everyone))
    reach = codec.decode_reach_frames
    late, always = codec.init_decode_state(1), codec.init_decode_state(1)
    codec.decode_step(late, codes[..., :reach], everyone)
    codec.decode_step(always, codes[..., 3 : 3 + 7], everyone)
    codec.decode_step(always, codes[..., :reach], everyone)
    rest = codes[..., reach:]
    torch.testing.assert_close(
        codec.decode_step(late, rest, everyone), codec.decode_step(always, rest, everyone)
    )


def test_a_seat_can_be_reset_and_moved() -> None:
    codec, everyone = make_codec(dtype=torch.float64), torch.tensor([True, True])
    codes = some_codes(2, 30)
    state, moved = codec.init_decode_state(2), codec.init_decode_state(2)
    codec.decode_step(state, codes[..., :4], everyone)
    put_(moved, 1, take(state, 0))
    reset_(state, torch.tensor([True, False]))
    assert not any(leaf[0].any() for leaf in leaves(state))
    rest = codes[..., 4:]
    fresh = codec.decode_step(state, rest, everyone)[:1]
    assert_same_wave_later(codec, fresh, codec.decode(rest[:1]))
    goes_on = codec.decode_step(moved, rest.flip(0), everyone)[1:]
    whole = stream_decode(codec, codes[:1], [4, 26])[..., 4 * codec.frame_samples :]
    torch.testing.assert_close(goes_on, whole, atol=TOLERANCE[whole.dtype], rtol=0)


def test_an_odd_stride_s_missing_samples_are_zeros() -> None:
    codec, codes = make_codec(), some_codes(1)
    library = codec.model.decode(codec.model.quantizer.from_codes(codes)[0])
    wave = codec.decode(codes)
    assert library.shape[-1] == FRAMES * codec.frame_samples - 8
    assert torch.equal(wave[..., :-8], library)
    assert not wave[..., -8:].any()


def test_it_is_a_codec() -> None:
    codec = make_codec(44_100)
    assert isinstance(codec, Codec)
    assert (codec.sample_rate_hz, codec.frame_samples) == (44_100, 512)
    assert (codec.num_codebooks, codec.codebook_size) == (K, V)
    assert codec.frame_rate_hz == pytest.approx(86.13, abs=0.01)


def library_model(sizes: DacConfig) -> Any:
    """The library's own, built as its users build it."""
    prepare_torchaudio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dac

        torch.manual_seed(5)
        arguments: dict[str, Any] = {key: list(v) if isinstance(v, tuple) else v for key, v in sizes}
        return dac.DAC(**arguments).eval()


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    """A file as the library's training writes and publishes it, history included."""
    path = tmp_path / "weights_own.pth"
    library_model(config()).save(str(path), metadata={"logs": {"loss": [1.0, 0.5]}}, package=False)
    return path


def test_a_file_of_weights_gives_the_library_s_results(weights_file: Path) -> None:
    model, codec = library_model(config()), DacCodec.from_published(str(weights_file))
    assert (codec.sample_rate_hz, codec.frame_samples, codec.num_codebooks) == (24_000, 320, K)
    wave = waves(codec, 2)
    with torch.no_grad():
        latents, codes, *_ = model.encode(wave)
        decoded = model.decode(latents)
    assert torch.equal(codec.encode(wave), codes)
    torch.testing.assert_close(codec.decode(codes)[..., :-8], decoded, atol=1e-6, rtol=1e-5)


def test_a_damaged_or_foreign_file_is_one_clear_error(weights_file: Path) -> None:
    content = torch.load(weights_file, weights_only=True)
    other = weights_file.with_name("other.pth")
    whole = weights_file.read_bytes()

    def saved(value: object) -> Path:
        torch.save(value, other)
        return other

    def refused(path: Path, why: str) -> None:
        with pytest.raises(CheckpointError, match=why) as caught:
            DacCodec.from_published(str(path))
        assert str(path) in str(caught.value)

    refused(saved({"model": torch.zeros(3)}), "no DAC")
    refused(saved([1, 2]), "no DAC")
    refused(saved(content | {"metadata": {"kwargs": {"encoder_rates": [2, 3]}}}), "same product")
    kwargs = content["metadata"]["kwargs"]
    refused(saved(content | {"metadata": {"kwargs": kwargs | {"codebook_size": 32}}}), "codebook")
    refused(saved(content | {"state_dict": {}}), "lacks ")
    refused(saved(content | {"state_dict": 3}), "does not fit")
    other.write_bytes(whole[: len(whole) // 2])
    refused(other, "cut off")
    other.write_bytes(b"RIFF" + bytes(100))
    refused(other, "damaged")
    refused(weights_file.with_name("absent.pth"), "dac_24khz")


def test_every_published_model_says_where_it_is_from() -> None:
    assert sorted(PUBLISHED) == ["dac_16khz", "dac_24khz", "dac_44khz"]
    assert len({weights.url for weights in PUBLISHED.values()}) == len(PUBLISHED)
    assert all(weights.licence == "MIT" for weights in PUBLISHED.values())


@pytest.mark.parametrize(
    "sizes",
    [
        {"encoder_rates": (2, 4), "decoder_rates": (4, 4)},
        {"encoder_rates": (1, 4), "decoder_rates": (4, 1)},
        {"encoder_rates": (2, 4), "decoder_rates": (4, 2), "decoder_dim": 2},
    ],
)
def test_sizes_that_fit_no_frames_are_refused(sizes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"rates|halved"):
        DacConfig.model_validate(sizes)


def test_a_module_of_no_known_kind_is_refused() -> None:
    with pytest.raises(AssertionError, match="GELU"):
        Kinds(pointwise=(nn.Tanh,), residual=()).layer(nn.Sequential(nn.Tanh(), nn.GELU()), Place(1))
