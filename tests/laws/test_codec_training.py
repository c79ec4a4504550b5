"""Laws of the codec's training loop: it learns, a resumed run is the same run, two workers equal one."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from paluku.registry.artefact import read_card
from paluku.training import codec_loop
from paluku.training.codec_loop import CodecTrainingConfig
from paluku.training.world import World, current_world
from tests.fakes.features import write_features
from tests.fakes.training import RATE_HZ, TINY_CODEC, MemoryReporter, tiny_run
from tests.fakes.utterances import write_utterances


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("utterances")
    return write_utterances(folder, train=6, dev=2, duration_s=1.0, rate_hz=RATE_HZ)


# Too few numbers a frame for the linear path alone.
NARROW = TINY_CODEC.model_copy(update={"latent_dim": 4})
# Discriminators join at the fourth step, so a resume has them and their optimiser to go on with.
GAN = {
    "adversarial_after_steps": 3,
    "gan": {"discriminators": {"windows": (128, 256), "channels": 4}},
}


@pytest.mark.parametrize("how", [{}, GAN], ids=["alone", "with discriminators"])
def test_ten_steps_equal_five_resume_five(corpus: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    """Bit for bit: weights, codebooks, averages, optimisers and every logged loss."""
    through, first, second = MemoryReporter(), MemoryReporter(), MemoryReporter()
    whole = codec_loop.run(tiny_run(corpus, tmp_path / "whole", **how), through)
    halves = tiny_run(corpus, tmp_path / "halves", **how)
    codec_loop.run(halves, first)
    resumed = tiny_run(corpus, tmp_path / "resumed", **how)
    torch.manual_seed(1234)  # a new process has another random state
    ended = codec_loop.run(resumed, second, resume=tmp_path / "halves" / "step-000005")
    assert [step for step, _ in second.curve("loss")] == [6, 7, 8, 9, 10]
    assert second.curve("loss") == through.curve("loss")[5:]
    assert second.curve("dev_si_sdr_db") == through.curve("dev_si_sdr_db")
    assert read_card(ended).hash == read_card(whole).hash
    was, now = (torch.load(folder / "training.pt", weights_only=True) for folder in (whole, ended))
    assert now.keys() == was.keys()
    for part in ("weights", "average", "optimiser", "balancer", "pupil", "gan"):
        assert _same(now[part], was[part]), part
    assert bool(through.curve("discriminator")) == bool(how)


def _same(a: Any, b: Any) -> bool:
    """Equal trees of tensors and plain values."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


def test_it_learns_one_utterance_by_heart(tmp_path: Path) -> None:
    """Through four numbers a frame. Without a learning rate the wave loss ends at 0.54; so it at 0.006."""
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
        model=NARROW,
        weights={"wave": 1.0, "band": 0.0, "mel": 0.1},
        evaluate_every=150,
        checkpoint_every=150,
    )
    codec_loop.run(config, reporter)
    losses = [value for _, value in reporter.curve("loss")]
    assert losses[0] > 0.6
    assert max(losses[-10:]) < 0.15
    assert max(value for _, value in reporter.curve("wave")[-10:]) < 0.03


@pytest.mark.parametrize("how", [{}, GAN], ids=["alone", "with discriminators"])
def test_two_workers_equal_one_with_twice_the_batch(
    corpus: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    """Replicas agree bit for bit; with the single worker up to the order of sums.

    Far more frames than codebook entries: a residual of exactly zero would make the nearest entry chance.
    """
    config = tiny_run(corpus, tmp_path, batch=8, crop_s=1.0, **how)
    alone = _trained(config, World(0, 1, torch.device("cpu")))
    halved = tiny_run(corpus, tmp_path, batch=4, crop_s=1.0, **how)
    mp.spawn(_worker, (halved, _free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    # Opponents amplify what the order of sums leaves.
    tolerance = 1e-2 if how else 1e-3
    torch.testing.assert_close(first, dict(alone), atol=tolerance, rtol=tolerance)


def _trained(config: CodecTrainingConfig, world: World) -> Mapping[str, Tensor]:
    state = codec_loop.build(config, world)
    crops = codec_loop.crops(config, "train", config.crop_s)
    for step in range(config.steps):
        codec_loop.prepare_(state, crops)
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


def test_discriminators_learn_beside_the_codec(corpus: Path, tmp_path: Path) -> None:
    """A GAN at toy size: the discriminators begin to tell what is decoded, and the codec hears it."""
    reporter = MemoryReporter()
    long = {"steps": 60, "learning_rate": 5e-3, "evaluate_every": 60, "checkpoint_every": 60}
    how = {**GAN, "gan": {**GAN["gan"], "learning_rate": 5e-3}, "model": NARROW}
    codec_loop.run(tiny_run(corpus, tmp_path, **how, **long), reporter)
    judged = [value for _, value in reporter.curve("discriminator")]
    assert judged[0] == pytest.approx(2.0, abs=0.02)  # all verdicts near 0
    assert min(judged) < 1.95
    assert {"adversarial", "feature"} <= reporter.reported[-2][1].keys()


def test_a_teacher_shapes_the_first_codebook(tmp_path: Path) -> None:
    """What the teacher heard can be told from the first code better and better."""
    corpus = write_utterances(tmp_path / "corpus", train=4, dev=1, duration_s=1.0, rate_hz=RATE_HZ)
    features = write_features(tmp_path / "features", corpus, dims=4)
    reporter = MemoryReporter()
    long = {"steps": 120, "learning_rate": 1e-2, "evaluate_every": 120, "checkpoint_every": 120}
    config = tiny_run(corpus, tmp_path / "out", teacher=features, weights={"teacher": 1.0}, **long)
    codec_loop.run(config, reporter)
    told = [value for _, value in reporter.curve("teacher")]
    assert sum(told[-10:]) / 10 < 0.75 * sum(told[:5]) / 5
