"""The shipped architecture's own promises; the laws all codecs obey are in tests/laws."""

import pytest
import torch

from paluku.codec.port import Codec
from paluku.codec.soundstream import SoundStreamCodec
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.config import resolve
from paluku.errors import ConfigError

SMALL = SoundStreamConfig(channels=4, feature_dim=8, num_codebooks=3, codebook_size=16)


def test_it_is_a_codec_of_25_frames_a_second() -> None:
    codec: Codec = SoundStreamCodec(SMALL)
    codes = codec.encode(torch.randn(2, 1, 640 * 7))
    assert codes.shape == (2, 3, 7)
    assert codec.decode(codes).shape == (2, 1, 640 * 7)
    assert (codec.sample_rate_hz, codec.frame_rate_hz, codec.delay_samples) == (16_000, 25, 0)


def test_lyra_s_sizes_have_1_3_million_weights() -> None:
    codec = SoundStreamCodec(SoundStreamConfig())
    parts = (codec.encoder, codec.decoder)
    assert [sum(weight.numel() for weight in part.parameters()) for part in parts] == [660_352, 660_289]


def test_half_a_frame_of_features_stands_beside_the_other() -> None:
    codec = SoundStreamCodec(SMALL).requires_grad_(False)
    wave = torch.randn(1, 1, 640 * 2)
    features = codec.encoder(wave.transpose(1, 2))
    expected = torch.stack([torch.cat((features[0, 0], features[0, 1])), torch.cat(tuple(features[0, 2:]))])
    torch.testing.assert_close(codec.latents(wave)[0].T, expected)


def test_training_with_all_codebooks_decodes_what_serving_decodes() -> None:
    torch.manual_seed(0)
    codec, wave = SoundStreamCodec(SMALL), torch.randn(2, 1, 640 * 4)
    decoded, _ = codec(wave, torch.tensor([3, 1]))
    codes = codec.encode(wave)
    torch.testing.assert_close(decoded[:1].detach(), codec.decode(codes[:1]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(decoded[1:].detach(), codec.decode(codes[1:, :1]), atol=1e-3, rtol=1e-3)


def test_silence_stays_finite_both_ways_and_has_a_gradient() -> None:
    codec = SoundStreamCodec(SMALL)
    decoded, quantized = codec(torch.zeros(1, 1, 640 * 3), torch.tensor([3]))
    assert quantized is not None
    (decoded.square().sum() + quantized.commitment).backward()
    gradients = [weight.grad for weight in codec.parameters() if weight.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_fewer_codebooks_code_alike() -> None:
    codec, wave = SoundStreamCodec(SMALL).eval(), torch.randn(1, 1, 640 * 4)
    fewer = codec.first(2)
    assert fewer.num_codebooks == fewer.config.num_codebooks == 2
    assert torch.equal(fewer.encode(wave), codec.encode(wave)[:, :2])
    assert codec.num_codebooks == 3


@torch.no_grad()
def test_the_stated_reach_is_how_far_back_a_frame_hears() -> None:
    torch.manual_seed(0)
    codec = SoundStreamCodec(SMALL)
    frames = codec.encode_reach_frames + 4
    wave = torch.randn(1, 1, 640 * frames)
    changed = wave.clone()
    changed[..., :640] += 1.0
    differs = (codec.latents(wave) - codec.latents(changed)).abs().amax(dim=1)[0] > 0
    assert differs[: codec.encode_reach_frames].any()
    assert not differs[codec.encode_reach_frames + 1 :].any()
    latents = codec.latents(wave)
    moved = latents.clone()
    moved[..., 0] += 1.0
    heard = (codec._wave(latents) - codec._wave(moved)).abs().reshape(frames, 640).amax(dim=1) > 0
    assert heard[0]
    assert not heard[codec.decode_reach_frames + 1 :].any()


def test_frames_that_are_not_a_25th_of_a_second_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames of 960 samples; at 16000 Hz a frame has 640"):
        resolve(SoundStreamConfig, {"hops_per_frame": 3}, "codec.yaml")


def test_features_that_do_not_fall_into_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="feature_dim is 66; make it a multiple of 4"):
        resolve(SoundStreamConfig, {"feature_dim": 66}, "codec.yaml")
