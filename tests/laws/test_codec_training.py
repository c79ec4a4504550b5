"""Laws of the codec's training loop: it learns, a resumed run is the same run, two workers equal one."""

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from paluku.registry.artefact import read_card
from paluku.training import codec_loop
from paluku.training.codec_loop import CodecTrainingConfig
from paluku.training.world import World, current_world
from tests.fakes.training import RATE_HZ, MemoryReporter, tiny_run
from tests.fakes.utterances import write_utterances


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("utterances")
    return write_utterances(folder, train=6, dev=2, duration_s=1.0, rate_hz=RATE_HZ)


def test_ten_steps_equal_five_resume_five(corpus: Path, tmp_path: Path) -> None:
    """Bit for bit: weights, codebooks, optimiser and every logged loss."""
    through, first, second = MemoryReporter(), MemoryReporter(), MemoryReporter()
    whole = codec_loop.run(tiny_run(corpus, tmp_path / "whole"), through)
    halves = tiny_run(corpus, tmp_path / "halves")
    codec_loop.run(halves, first)
    resumed = tiny_run(corpus, tmp_path / "resumed")
    torch.manual_seed(1234)  # a new process has another random state
    ended = codec_loop.run(resumed, second, resume=tmp_path / "halves" / "step-000005")
    assert [step for step, _ in second.curve("loss")] == [6, 7, 8, 9, 10]
    assert second.curve("loss") == through.curve("loss")[5:]
    assert second.curve("dev_si_sdr_db") == through.curve("dev_si_sdr_db")
    assert read_card(ended).hash == read_card(whole).hash
    was, now = (torch.load(folder / "training.pt", weights_only=True) for folder in (whole, ended))
    torch.testing.assert_close(now["optimiser"], was["optimiser"], atol=0, rtol=0)


def test_it_learns_one_utterance_by_heart(tmp_path: Path) -> None:
    """Silence has a wave loss of 1. Broken on purpose, runs end at a loss of 1.17 (no learning rate),
    0.87 (no k-means) and 0.43 (codebooks that do not follow); this one ends at 0.08.
    """
    corpus = write_utterances(tmp_path / "one", train=1, dev=1, duration_s=0.8, rate_hz=RATE_HZ)
    reporter = MemoryReporter()
    config = tiny_run(
        corpus,
        tmp_path / "out",
        steps=150,
        batch=2,
        crop_s=0.8,
        quantise_after_steps=75,
        learning_rate=1e-2,
        weights={"mel": 0.1},
        evaluate_every=150,
        checkpoint_every=150,
    )
    codec_loop.run(config, reporter)
    losses = [value for _, value in reporter.curve("loss")]
    assert losses[0] > 0.9
    assert max(losses[-10:]) < 0.15
    assert max(value for _, value in reporter.curve("wave")[-10:]) < 0.06


def test_two_workers_equal_one_with_twice_the_batch(corpus: Path, tmp_path: Path) -> None:
    """Replicas agree bit for bit; with the single worker up to the order of sums.

    Far more frames than codebook entries: a residual of exactly zero would make the nearest entry chance.
    """
    config = tiny_run(corpus, tmp_path, batch=8, crop_s=1.0)
    alone = _trained(config, World(0, 1, torch.device("cpu")))
    halved = tiny_run(corpus, tmp_path, batch=4, crop_s=1.0)
    mp.spawn(_worker, (halved, _free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    torch.testing.assert_close(first, dict(alone), atol=1e-3, rtol=1e-3)


def _trained(config: CodecTrainingConfig, world: World) -> Mapping[str, Tensor]:
    state = codec_loop.build(config, world)
    crops = codec_loop.crops(config, "train", config.crop_s)
    for step in range(config.steps):
        codec_loop.step(state, crops.batch(step, config.batch, world))
    return state.codec.state_dict()


def _worker(rank: int, config: CodecTrainingConfig, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(dict(_trained(config, current_world())), folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
