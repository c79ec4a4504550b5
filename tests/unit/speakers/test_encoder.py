"""Laws of the speaker encoder."""

import pytest
import torch
from pydantic import ValidationError

from paluku.speakers.encoder import AttentiveStatistics, SpeakerEncoder, SpeakerEncoderConfig
from tests.fakes.speakers import TINY_ENCODER, voice


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    return SpeakerEncoder(TINY_ENCODER).eval()


WAVES = torch.stack([torch.from_numpy(voice(person, 0, 1.0))[None] for person in range(3)])


def test_vectors_have_unit_length(encoder: SpeakerEncoder) -> None:
    vectors = encoder(WAVES)
    assert vectors.shape == (3, 12)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_a_vector_does_not_depend_on_who_else_is_in_the_batch(encoder: SpeakerEncoder) -> None:
    alone = torch.cat([encoder(wave[None]) for wave in WAVES])
    torch.testing.assert_close(encoder(WAVES), alone)


def test_the_level_of_a_wave_does_not_matter(encoder: SpeakerEncoder) -> None:
    torch.testing.assert_close(encoder(0.02 * WAVES), encoder(WAVES), atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples", [256, 801, 8_000])
def test_any_length_will_do(encoder: SpeakerEncoder, samples: int) -> None:
    assert torch.isfinite(encoder(WAVES[..., :samples])).all()


def test_every_weight_learns(encoder: SpeakerEncoder) -> None:
    encoder(WAVES)[:, 0].sum().backward()
    idle = [
        name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    # A constant added to all scores of a channel leaves its softmax as it is.
    assert idle in ([], ["pool.scores.bias"])
    encoder.zero_grad()


def test_statistics_without_attention_are_mean_and_deviation() -> None:
    pool = AttentiveStatistics(3, 2)
    torch.nn.init.zeros_(pool.scores.weight)
    latent = torch.randn(2, 3, 50)
    expected = torch.cat((latent.mean(dim=-1), latent.std(dim=-1, correction=0)), dim=1)
    torch.testing.assert_close(pool(latent), expected)


def test_the_shipped_sizes() -> None:
    encoder = SpeakerEncoder(SpeakerEncoderConfig())
    assert encoder.dim == 192
    assert 0.5e6 < sum(weight.numel() for weight in encoder.parameters()) < 1.5e6


def test_channels_that_cannot_be_parted_are_refused() -> None:
    with pytest.raises(ValidationError, match="channels is 190, no multiple of scale, 4"):
        SpeakerEncoderConfig(channels=190)
