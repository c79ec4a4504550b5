import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paluku.config import load
from paluku.corpus.shards import ShardSet
from paluku.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from paluku.registry.models import load_s2s
from paluku.training import s2s_loop
from paluku.training.ports import SilentReporter
from paluku.training.world import World
from tests.fakes.tokens import TINY_S2S, tiny_s2s_run, write_tokens
from tests.fakes.training import MemoryReporter

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"))


def test_two_workers_read_what_one_would(tokens: Path, tmp_path: Path) -> None:
    train = ShardSet(tokens, "tokens", "train")
    alone = s2s_loop.build(tiny_s2s_run(tokens, tmp_path, batch=4), World(0, 1, CPU))
    alone.step = 7
    whole = s2s_loop.next_batch(alone, train)
    halves = []
    for rank in range(2):
        alone.config, alone.world = tiny_s2s_run(tokens, tmp_path, batch=2), World(rank, 2, CPU)
        halves.append(s2s_loop.next_batch(alone, train))
    for expected, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(torch.cat(parts), expected)


def test_checkpoints_come_when_they_are_due_and_can_be_served(tokens: Path, tmp_path: Path) -> None:
    reporter = MemoryReporter()
    config = tiny_s2s_run(tokens, tmp_path, steps=7, checkpoint_every=3, evaluate_every=4, log_every=5)
    ended = s2s_loop.run(config, reporter)
    assert reporter.checkpoints == [(tmp_path / f"step-00000{n}", n) for n in (3, 6, 7)]
    assert [step for step, _ in reporter.curve("loss")] == [5, 7]
    assert [step for step, _ in reporter.curve("dev_text_perplexity")] == [4, 7]
    assert ended == tmp_path / "step-000007"
    card, model = load_s2s(ended)
    assert card.step == 7
    assert model.config == TINY_S2S
    assert not model.training


def test_a_finished_run_that_is_resumed_ends_at_once(tokens: Path, tmp_path: Path) -> None:
    ended = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "a", steps=5), SilentReporter())
    again, reporter = tiny_s2s_run(tokens, tmp_path / "b", steps=5), MemoryReporter()
    assert s2s_loop.run(again, reporter, resume=ended) == tmp_path / "b" / "step-000005"
    assert reporter.reported == []


def test_a_checkpoint_of_another_codec_s_tokens_is_refused(tokens: Path, tmp_path: Path) -> None:
    ended = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "out", steps=5), SilentReporter())
    other = write_tokens(tmp_path / "tokens", codec="codec-2")
    with pytest.raises(CheckpointError, match="give it the tokens it began with"):
        s2s_loop.run(tiny_s2s_run(other, tmp_path / "more"), SilentReporter(), resume=ended)


def test_tokens_of_more_codebooks_than_the_model_s_are_refused(tokens: Path, tmp_path: Path) -> None:
    model = TINY_S2S.model_copy(update={"num_codebooks": 2})
    with pytest.raises(CorpusError, match=r"the model has 2 codebooks; set model\.num_codebooks"):
        s2s_loop.run(tiny_s2s_run(tokens, tmp_path, model=model), SilentReporter())


def test_tokens_without_a_dev_split_are_refused_before_any_step(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no rows in split 'dev'"):
        s2s_loop.run(
            tiny_s2s_run(write_tokens(tmp_path / "tokens", dev=0), tmp_path / "out"), SilentReporter()
        )
    assert not (tmp_path / "out").exists()


def test_a_diverged_run_stops_with_its_weights_as_they_were(tokens: Path, tmp_path: Path) -> None:
    state = s2s_loop.build(tiny_s2s_run(tokens, tmp_path), World(0, 1, CPU))
    with torch.no_grad():
        state.model.text_head.weight[0, 0] = torch.inf
    before = {name: weight.clone() for name, weight in state.model.named_parameters()}
    with pytest.raises(TrainingError, match="step 1: the gradient is nan"):
        s2s_loop.step(state, s2s_loop.next_batch(state, ShardSet(tokens, "tokens", "train")))
    assert all(torch.equal(weight, before[name]) for name, weight in state.model.named_parameters())


def test_the_demo_s_configuration_is_valid() -> None:
    config = load(
        s2s_loop.S2STrainingConfig,
        ROOT / "jobs/configs/train_s2s.demo.yaml",
        ["tokens=/tokens", "out=/out", "model.layers=2"],
    )
    assert config.model.layers == 2
    assert config.model.num_codebooks == 8


def test_a_relative_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokens: tokens/x must be absolute"):
        load(
            s2s_loop.S2STrainingConfig,
            ROOT / "jobs/configs/train_s2s.demo.yaml",
            ["tokens=tokens/x", "out=/o"],
        )


def test_it_runs_as_a_program_and_goes_on_where_it_was_stopped(tokens: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(tiny_s2s_run(tokens, tmp_path / "out", steps=10).to_json())  # JSON is YAML
    command = [sys.executable, "-m", "paluku.training.s2s_loop", str(config)]
    s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "out", steps=5), SilentReporter())
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step 6 loss=" in done.stderr
    assert "step 5 loss=" not in done.stderr
    assert (tmp_path / "out" / "step-000010" / "card.json").is_file()
