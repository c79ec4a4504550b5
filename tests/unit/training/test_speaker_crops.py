"""Speaker training batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from paluku.corpus.shards import ShardSet
from paluku.training.speaker_crops import SpeakerCrops
from paluku.training.world import World
from tests.fakes.speakers import RATE_HZ, tiny_speaker_run, voice, write_speakers

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)
PLAIN = {"disturbances": {"noise_share": 0.0, "band_share": 0.0, "gain_db": (0.0, 0.0)}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speakers(tmp_path_factory.mktemp("speakers"), train=5, dev=2)


def crops(corpus: Path, **changes: object) -> SpeakerCrops:
    config = tiny_speaker_run(corpus, corpus / "out", **changes)
    return SpeakerCrops(ShardSet(corpus, "utterances", "train"), config)


def test_several_utterances_of_each_speaker_follow_each_other(corpus: Path) -> None:
    batch = crops(corpus, utterances_per_speaker=3, batch=5).batch(0, ALONE)
    assert batch.wave.shape[:2] == (15, 1)
    speakers = batch.speaker.reshape(5, 3)
    assert (speakers == speakers[:, :1]).all()
    assert sorted(speakers[:, 0].tolist()) == [0, 1, 2, 3, 4]


def test_a_crop_is_a_stretch_of_its_speaker(corpus: Path) -> None:
    batch = crops(corpus, **PLAIN, crop_s=(0.4, 0.4)).batch(1, ALONE)
    for wave, speaker in zip(batch.wave[:, 0], batch.speaker.tolist(), strict=True):
        said = [torch.from_numpy(voice(speaker, number, 0.8)) for number in range(3)]
        stretches = torch.cat([whole.unfold(0, 3_200, 1) for whole in said])
        assert (stretches - wave).abs().amax(dim=1).min() < 1e-3


def test_two_workers_read_what_one_with_twice_the_batch_reads(corpus: Path) -> None:
    whole = crops(corpus, batch=4).batch(2, ALONE)
    halves = [crops(corpus, batch=2).batch(2, World(rank, 2, CPU)) for rank in range(2)]
    assert torch.equal(torch.cat([half.wave for half in halves]), whole.wave)
    assert torch.equal(torch.cat([half.speaker for half in halves]), whole.speaker)


def test_a_speed_is_another_speaker_of_another_pitch(corpus: Path) -> None:
    """A tone of 500 Hz, played 1.25 times as fast, has 625 Hz."""
    found = crops(corpus, **PLAIN, speeds=(1.0, 1.25), batch=10, crop_s=(0.5, 0.5))
    assert found.num_speakers == 10
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    found._recordings.wave = lambda number: tone
    batch = found.batch(0, ALONE)
    peaks_hz = torch.fft.rfft(batch.wave[:, 0]).abs().argmax(dim=1) * 2
    for peak_hz, speaker in zip(peaks_hz.tolist(), batch.speaker.tolist(), strict=True):
        assert peak_hz == pytest.approx(625 if speaker % 2 else 500, abs=2)


def test_a_short_utterance_comes_again(corpus: Path) -> None:
    batch = crops(corpus, **PLAIN, crop_s=(1.6, 1.6)).batch(0, ALONE)
    torch.testing.assert_close(batch.wave[..., :6_400], batch.wave[..., 6_400:], atol=1e-5, rtol=0)


def test_lengths_are_drawn_for_each_step(corpus: Path) -> None:
    found = crops(corpus, crop_s=(0.3, 0.7))
    seconds = [found.batch(step, ALONE).wave.shape[-1] / RATE_HZ for step in range(8)]
    assert len(set(seconds)) > 4
    assert 0.3 <= min(seconds) <= max(seconds) <= 0.7
