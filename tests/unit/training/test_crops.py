"""Codec training batches."""

from typing import NamedTuple

import pytest
import torch

from paluku.audio import from_pcm16, to_pcm16
from paluku.corpus.shards import ShardSet
from paluku.training.crops import Crops
from paluku.training.world import World
from tests.fakes.utterances import vowel, write_utterances

RATE_HZ = 8_000
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("utterances")
    write_utterances(folder, train=5, dev=1, duration_s=0.5, rate_hz=RATE_HZ)
    return ShardSet(folder, "utterances", "train")


class Shape(NamedTuple):
    sample_rate_hz: int = RATE_HZ
    frame_samples: int = 320
    num_codebooks: int = 4


SHAPE = Shape()


def test_a_crop_is_a_stretch_of_some_utterance(utterances: ShardSet) -> None:
    batch = Crops(utterances, SHAPE, 1600, seed=0).batch(0, 5, World(0, 1, CPU))
    originals = [torch.from_numpy(from_pcm16(to_pcm16(vowel(s, 0.5, RATE_HZ)))) for s in range(5)]
    stretches = torch.cat([wave.unfold(0, 1600, 1) for wave in originals])
    assert batch.wave.shape == (5, 1, 1600)
    distances = torch.cdist(batch.wave[:, 0], stretches).amin(dim=1)
    assert distances.max() < 0.02


def test_a_short_utterance_is_followed_by_silence(utterances: ShardSet) -> None:
    batch = Crops(utterances, SHAPE, 6400, seed=0).batch(0, 2, World(0, 1, CPU))
    assert batch.wave[..., :4000].abs().amax() > 0.1
    assert not batch.wave[..., 4000:].any()


def test_levels_differ_and_nothing_clips(utterances: ShardSet) -> None:
    plain = Crops(utterances, SHAPE, 1600, seed=0).batch(0, 40, World(0, 1, CPU)).wave
    varied = (
        Crops(utterances, SHAPE, 1600, seed=0, levels_db=(-12.0, 20.0)).batch(0, 40, World(0, 1, CPU)).wave
    )
    gains_db = 20 * torch.log10(varied.norm(dim=2) / plain.norm(dim=2)).flatten()
    assert gains_db.min() < -9
    assert gains_db.max() > 1
    assert varied.abs().max() <= max(1.0, plain.abs().max())
    torch.testing.assert_close(
        varied / varied.norm(dim=2, keepdim=True), plain / plain.norm(dim=2, keepdim=True)
    )


def test_two_workers_draw_together_what_one_draws(utterances: ShardSet) -> None:
    crops = Crops(utterances, SHAPE, 1600, seed=0)
    whole = crops.batch(3, 6, World(0, 1, CPU))
    halves = [crops.batch(3, 3, World(rank, 2, CPU)) for rank in range(2)]
    assert torch.equal(torch.cat([half.wave for half in halves]), whole.wave)
    assert torch.equal(torch.cat([half.num_codebooks for half in halves]), whole.num_codebooks)


def test_quantizer_dropout_uses_all_codebooks_half_the_time_and_any_number_else(utterances: ShardSet) -> None:
    crops = Crops(utterances, SHAPE, 320, seed=0)
    numbers = crops.batch(0, 400, World(0, 1, CPU)).num_codebooks
    shares = torch.bincount(numbers, minlength=5) / 400
    expected = torch.tensor([0, 0.125, 0.125, 0.125, 0.625])
    torch.testing.assert_close(shares, expected, atol=0.05, rtol=0)
