"""Laws of the speaker encoder's training loop: it learns, and a resumed run is the same run."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from paluku.corpus.shards import ShardSet
from paluku.registry.artefact import read_card
from paluku.training import speaker_loop
from paluku.training.speaker_config import SpeakerTrainingConfig
from paluku.training.speaker_crops import SpeakerCrops
from paluku.training.world import current_world
from tests.fakes.speakers import tiny_speaker_run, write_speakers
from tests.fakes.training import MemoryReporter


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speakers(tmp_path_factory.mktemp("speakers"), train=6, dev=4)


def test_ten_steps_equal_five_resume_five(corpus: Path, tmp_path: Path) -> None:
    """Bit for bit: weights, averages, optimiser and every logged loss."""
    through, second = MemoryReporter(), MemoryReporter()
    whole = speaker_loop.run(tiny_speaker_run(corpus, tmp_path / "whole"), through)
    torch.manual_seed(1234)  # a new process has another random state
    halves = tiny_speaker_run(corpus, tmp_path / "halves")
    ended = speaker_loop.run(halves, second, resume=tmp_path / "whole" / "step-000005")
    assert second.curve("loss") == through.curve("loss")[5:]
    assert second.curve("unseen_equal_error_rate") == through.curve("unseen_equal_error_rate")
    assert read_card(ended).hash == read_card(whole).hash
    was, now = (torch.load(folder / "training.pt", weights_only=True) for folder in (whole, ended))
    torch.testing.assert_close(now, was, atol=0, rtol=0)


def test_it_tells_unseen_speakers_apart(tmp_path: Path) -> None:
    """Random weights are wrong in a third of the pairs."""
    corpus = write_speakers(tmp_path / "corpus", train=12, dev=6)
    quiet = {"noise_share": 0.0, "band_share": 0.0}
    how = {"steps": 40, "batch": 12, "learning_rate": 1e-2, "average_decay": 0.9, "margin": 0.1}
    config = tiny_speaker_run(corpus, tmp_path / "out", disturbances=quiet, **how)
    train = SpeakerCrops(ShardSet(corpus, "utterances", "train"), config)
    unseen = speaker_loop.Unseen(ShardSet(corpus, "utterances", "dev"), config)
    state = speaker_loop.build(config, current_world(), train.num_speakers)
    chance = speaker_loop.evaluate(state, unseen)["unseen_equal_error_rate"]
    told = [speaker_loop.step(state, train.batch(step, state.world)) for step in range(config.steps)]
    assert told[0]["accuracy"] < 0.4 < 0.8 < told[-1]["accuracy"]
    assert speaker_loop.evaluate(state, unseen)["unseen_equal_error_rate"] < 0.12 < 0.25 < chance


def test_two_workers_keep_the_same_weights_and_learn(corpus: Path, tmp_path: Path) -> None:
    config = tiny_speaker_run(corpus, tmp_path, batch=2)
    mp.spawn(_worker, (config, _free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first["weights"], second["weights"], atol=0, rtol=0)
    assert first["unseen"] == second["unseen"]
    fresh = speaker_loop.build(config, current_world(), 6).classifier
    moved = [
        name for name, weight in fresh.named_parameters() if not torch.equal(weight, first["weights"][name])
    ]
    assert len(moved) == len(list(fresh.named_parameters()))


def _worker(rank: int, config: SpeakerTrainingConfig, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    world = current_world()
    crops = SpeakerCrops(ShardSet(config.corpus, "utterances", "train"), config)
    unseen = speaker_loop.Unseen(ShardSet(config.corpus, "utterances", "dev"), config)
    state = speaker_loop.build(config, world, crops.num_speakers)
    for step in range(4):
        speaker_loop.step(state, crops.batch(step, world))
    found = {
        "weights": dict(state.classifier.named_parameters()),
        "unseen": speaker_loop.evaluate(state, unseen),
    }
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
