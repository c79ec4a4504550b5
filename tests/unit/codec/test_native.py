"""The native codec's own promises; the laws all codecs obey are in tests/laws."""

import pytest
import torch

from paluku.codec.companding import Bands
from paluku.codec.native import NativeCodec, NativeCodecConfig
from paluku.codec.port import Codec
from paluku.config import resolve
from paluku.errors import ConfigError


def test_it_is_a_codec_of_25_frames_a_second() -> None:
    codec: Codec = NativeCodec(NativeCodecConfig(num_codebooks=3))
    codes = codec.encode(torch.randn(2, 1, 640 * 7))
    assert codes.shape == (2, 3, 7)
    assert codec.decode(codes).shape == (2, 1, 640 * 7)
    assert (codec.sample_rate_hz, codec.frame_rate_hz) == (16_000, 25)


def test_a_full_rank_linear_path_alone_is_a_pure_delay() -> None:
    codec = NativeCodec(NativeCodecConfig(latent_dim=640)).requires_grad_(False)
    codec.encoder.last.weight.zero_()
    codec.decoder.last.weight.zero_()
    wave = torch.randn(1, 1, 640 * 5) * torch.linspace(0.01, 1, 640 * 5)
    decoded, quantized = codec(wave, None)
    assert quantized is None
    assert codec.delay_samples == 160
    torch.testing.assert_close(decoded[..., 160:], wave[..., :-160], atol=1e-4, rtol=1e-3)


def test_silence_stays_finite_both_ways_and_has_a_gradient() -> None:
    codec = NativeCodec(NativeCodecConfig())
    decoded, quantized = codec(torch.zeros(1, 1, 640 * 3), torch.tensor([16]))
    assert quantized is not None
    (decoded.square().sum() + quantized.commitment).backward()
    gradients = [weight.grad for weight in codec.parameters() if weight.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_training_with_all_codebooks_decodes_what_serving_decodes() -> None:
    torch.manual_seed(0)
    codec, wave = NativeCodec(NativeCodecConfig()), torch.randn(2, 1, 640 * 4)
    decoded, _ = codec(wave, torch.tensor([16, 3]))
    codes = codec.encode(wave)
    torch.testing.assert_close(decoded[:1].detach(), codec.decode(codes[:1]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded[1:].detach(), codec.decode(codes[1:, :3]), atol=1e-4, rtol=1e-4)


def test_a_frame_that_is_not_a_25th_of_a_second_is_refused() -> None:
    with pytest.raises(ConfigError, match="is 480; at 16000 Hz it must be 640"):
        resolve(NativeCodecConfig, {"hops_per_frame": 3}, "codec.yaml")


def test_a_wave_that_is_no_whole_number_of_frames_is_refused() -> None:
    with pytest.raises(AssertionError, match="700 samples are no whole frames of 640"):
        NativeCodec(NativeCodecConfig()).encode(torch.zeros(1, 1, 700))


def test_fewer_codebooks_code_alike() -> None:
    codec, wave = NativeCodec(NativeCodecConfig()).eval(), torch.randn(1, 1, 640 * 4)
    fewer = codec.first(3)
    assert (fewer.num_codebooks, codec.num_codebooks) == (3, 16)
    codes = codec.encode(wave)[:, :3]
    assert torch.equal(fewer.encode(wave), codes)
    torch.testing.assert_close(fewer.decode(codes), codec.decode(codes))


def test_a_projection_keeps_what_speech_is_made_of() -> None:
    """Speech that lives in three directions passes through three numbers a frame."""
    torch.manual_seed(0)
    codec = NativeCodec(NativeCodecConfig(latent_dim=3)).requires_grad_(False)
    codec.encoder.last.weight.zero_()
    codec.decoder.last.weight.zero_()
    frames = torch.randn(3, 640)
    mixed = torch.randn(500, 3) @ frames
    codec.project_on_(mixed.T @ mixed)
    latents = codec.to_latent(mixed.T[None])
    torch.testing.assert_close(codec.from_latent(latents)[0].T, mixed, atol=1e-3, rtol=1e-3)


def test_what_overshoots_is_not_squared() -> None:
    bands = Bands(160, 16_000, 20)
    quiet = torch.full((1, 160, 4, 1), 0.5)
    torch.testing.assert_close(bands.expanded(bands.compressed(quiet)), quiet, atol=1e-4, rtol=1e-4)
    loud = torch.full((1, 160, 4, 1), 100.0)
    assert bands.expanded(loud).max() < 100 * 10
