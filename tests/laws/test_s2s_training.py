"""Laws of the S2S training loop: it learns, a resumed run is the same run, two workers equal one."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from paluku.registry.artefact import read_card
from paluku.training import s2s_loop
from paluku.training.ports import SilentReporter
from paluku.training.s2s_loop import S2STrainingConfig
from tests.fakes.tokens import tiny_s2s_run, write_tokens
from tests.fakes.training import MemoryReporter


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"))


def test_ten_steps_equal_five_resume_five(tokens: Path, tmp_path: Path) -> None:
    """Bit for bit: weights, optimiser and every logged loss."""
    through, second = MemoryReporter(), MemoryReporter()
    whole = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "whole"), through)
    torch.manual_seed(1234)  # a new process has another random state
    halfway = tmp_path / "whole" / "step-000005"
    ended = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "resumed"), second, resume=halfway)
    assert [step for step, _ in second.curve("loss")] == [6, 7, 8, 9, 10]
    assert second.curve("loss") == through.curve("loss")[5:]
    assert second.curve("dev_loss") == through.curve("dev_loss")
    assert read_card(ended).hash == read_card(whole).hash
    was, now = (torch.load(folder / "training.pt", weights_only=True) for folder in (whole, ended))
    torch.testing.assert_close(now["optimiser"], was["optimiser"], atol=0, rtol=0)


def test_it_learns_a_few_dialogues_by_heart(tmp_path: Path) -> None:
    """Random tokens cannot be guessed, only learned: ln 12 = 2.5 nats a code, ln 20 = 3.0 a text token."""
    reporter = MemoryReporter()
    tokens = write_tokens(tmp_path / "tokens", train=2)
    config = tiny_s2s_run(tokens, tmp_path / "out", steps=150, evaluate_every=150, checkpoint_every=150)
    s2s_loop.run(config, reporter)
    assert reporter.curve("codes_0")[0][1] > 2.2
    for stream in ("text", "codes_0", "codes_1", "codes_2"):
        assert reporter.curve(stream)[-1][1] < 0.5, stream
    assert reporter.curve("dev_text")[-1][1] > 3.0, "dialogues never seen stay unguessable"


def test_two_workers_equal_one_with_twice_the_batch(tokens: Path, tmp_path: Path) -> None:
    """Also where dialogues of unequal lengths give the workers unequal numbers of tokens."""
    steps = {"steps": 6, "checkpoint_every": 6, "evaluate_every": 6}
    alone_reporter = MemoryReporter()
    alone = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "one", batch=4, **steps), alone_reporter)
    shared = tiny_s2s_run(tokens, tmp_path / "two", batch=2, **steps)
    mp.spawn(_worker, (shared, _free_port(), tmp_path), nprocs=2)
    together = load_file(tmp_path / "two" / "step-000006" / "model.safetensors")
    torch.testing.assert_close(together, load_file(alone / "model.safetensors"), atol=2e-4, rtol=1e-3)
    curves = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]
    assert curves[0] == curves[1]
    for name in ("loss", "dev_loss"):
        expected = [value for _, value in alone_reporter.curve(name)]
        assert [value for _, value in curves[0][name]] == pytest.approx(expected, rel=1e-4)


def _worker(rank: int, config: S2STrainingConfig, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    reporter = MemoryReporter()
    s2s_loop.run(config, reporter)
    torch.save({name: reporter.curve(name) for name in ("loss", "dev_loss")}, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_card_names_what_the_model_was_trained_on(tokens: Path, tmp_path: Path) -> None:
    config = tiny_s2s_run(tokens, tmp_path, steps=1)
    card = read_card(s2s_loop.run(config, SilentReporter()), "s2s")
    manifest = s2s_loop.ShardSet(tokens, "tokens", "train").manifest
    assert card.parents == {"tokens": manifest.hash, "codec": "codec-1", "tokenizer": "tokenizer-1"}
    assert (card.step, card.run_id) == (1, "none")
