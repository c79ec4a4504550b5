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
from paluku.training.s2s_config import S2STrainingConfig
from paluku.training.s2s_data import Feed
from paluku.training.s2s_parallel import autocast
from paluku.training.world import World
from tests.fakes.tokens import TINY_S2S, tiny_s2s_run, write_tokens
from tests.fakes.training import MemoryReporter

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"))


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
    feed = Feed(state.config, ShardSet(tokens, "tokens", "train"), state.world)
    with pytest.raises(TrainingError, match="step 1: the gradient is nan"):
        s2s_loop.step(state, feed.step(0))
    assert all(torch.equal(weight, before[name]) for name, weight in state.model.named_parameters())


def test_the_demo_s_configuration_is_valid() -> None:
    config = load(
        S2STrainingConfig,
        ROOT / "jobs/configs/train_s2s.demo.yaml",
        ["tokens=/tokens", "out=/out", "model.layers=2"],
    )
    assert config.model.layers == 2
    assert config.model.num_codebooks == 8


def test_a_relative_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokens: tokens/x must be absolute"):
        load(
            S2STrainingConfig,
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


def test_activations_computed_again_change_nothing(tokens: Path, tmp_path: Path) -> None:
    curves = []
    for recompute in (False, True):
        reporter = MemoryReporter()
        config = tiny_s2s_run(
            tokens, tmp_path / str(recompute), steps=3, recompute=recompute, depth_share=0.5, row_frames=20
        )
        s2s_loop.run(config, reporter)
        curves.append([value for name in ("loss", "dev_loss") for _, value in reporter.curve(name)])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_a_model_without_the_user_s_transcript_learns_the_rest(tokens: Path, tmp_path: Path) -> None:
    reporter = MemoryReporter()
    model = TINY_S2S.model_copy(update={"user_text": False})
    s2s_loop.run(tiny_s2s_run(tokens, tmp_path, steps=2, model=model), reporter)
    names = set().union(*(values for _, values in reporter.reported))
    assert {"text", "text_right", "codes_2", "codes", "global_tokens", "dev_codes_0_perplexity"} <= names
    assert not any("user_text" in name for name in names)


def test_sharding_without_workers_is_refused(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"parallel=fsdp shards over workers .* use torchrun, or parallel=ddp"
    ):
        s2s_loop.build(tiny_s2s_run(tokens, tmp_path, parallel="fsdp"), World(0, 1, CPU))


@pytest.mark.parametrize(
    "device",
    [
        CPU,
        pytest.param(
            torch.device("cuda"),
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_in_bfloat16_it_learns_what_it_does_in_float32(
    tokens: Path, tmp_path: Path, device: torch.device
) -> None:
    losses = []
    for where, half in ((CPU, False), (device, True)):
        config = tiny_s2s_run(tokens, tmp_path, depth_share=0.5, row_frames=20, bfloat16=half)
        state = s2s_loop.build(config, World(0, 1, where))
        feed = Feed(config, ShardSet(tokens, "tokens", "train"), state.world)
        steps = [s2s_loop.step(state, [each.to(where) for each in feed.step(n)]) for n in range(5)]
        losses.append([float(values["loss"]) for values in steps])
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_a_processor_that_multiplies_bfloat16_does(monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.ones(1, 1)
    for able, wanted, dtype in (
        ({"avx512_bf16": True}, True, torch.bfloat16),
        ({"amx_bf16": True}, True, torch.bfloat16),
        ({"avx512_bf16": True}, False, torch.float32),
        ({"avx2": True}, True, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        with autocast(World(0, 1, CPU), wanted):
            assert (one @ one).dtype == dtype
