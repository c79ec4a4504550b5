"""Laws of the S2S training loop: it learns, a resumed run is the same run, and neither workers, nor passes,
nor packing change what a step is."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from paluku.corpus.shards import ShardSet
from paluku.registry.artefact import read_card
from paluku.s2s.config import S2SConfig
from paluku.tokens.batches import Crop, token_batch
from paluku.training import s2s_loop
from paluku.training.ports import SilentReporter
from paluku.training.s2s_config import S2STrainingConfig
from paluku.training.s2s_data import Pass
from paluku.training.world import World
from tests.fakes.tokens import TINY_S2S, tiny_s2s_run, token_row, write_tokens
from tests.fakes.training import MemoryReporter

ALONE = World(0, 1, torch.device("cpu"))
MODELS = [TINY_S2S, TINY_S2S.model_copy(update={"hears_transcript": True})]
# Two documents share a row, codes are asked for at some frames only, some conditions are dropped.
EVERYTHING = {
    "row_frames": 20,
    "depth_share": 0.5,
    "silence_weight": 0.3,
    "drop_speaker": 0.4,
    "drop_style": 0.4,
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"), train=20)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_ten_steps_equal_five_resume_five(tokens: Path, tmp_path: Path, dropout: float) -> None:
    """Bit for bit: weights, their average, optimiser and every logged loss."""
    through, second = MemoryReporter(), MemoryReporter()
    whole = s2s_loop.run(
        tiny_s2s_run(tokens, tmp_path / "whole", accumulate=2, dropout=dropout, **EVERYTHING), through
    )
    torch.manual_seed(1234)  # a new process has another random state
    halfway = tmp_path / "whole" / "step-000005"
    again = tiny_s2s_run(tokens, tmp_path / "resumed", accumulate=2, dropout=dropout, **EVERYTHING)
    ended = s2s_loop.run(again, second, resume=halfway)
    assert [step for step, _ in second.curve("loss")] == [6, 7, 8, 9, 10]
    assert second.curve("loss") == through.curve("loss")[5:]
    assert second.curve("dev_loss") == through.curve("dev_loss")
    assert read_card(ended).hash == read_card(whole).hash
    was, now = (torch.load(folder / "training.pt", weights_only=True) for folder in (whole, ended))
    for part in ("weights", "average"):
        torch.testing.assert_close(now[part], was[part], atol=0, rtol=0)
    moments, expected = now["optimiser"], was["optimiser"]
    for group, other in zip(moments["param_groups"], expected["param_groups"], strict=True):
        assert {**group, "betas": list(group["betas"])} == {**other, "betas": list(other["betas"])}
    torch.testing.assert_close(moments["state"], expected["state"], atol=0, rtol=0)


def test_it_learns_a_few_dialogues_by_heart(tmp_path: Path) -> None:
    """Random tokens cannot be guessed, only learned: ln 12 = 2.5 nats a code, ln 20 = 3.0 a text token."""
    reporter = MemoryReporter()
    tokens = write_tokens(tmp_path / "tokens", train=2)
    steps = {"steps": 150, "evaluate_every": 150, "checkpoint_every": 150}
    config = tiny_s2s_run(tokens, tmp_path / "out", row_frames=20, drop_speaker=0, drop_style=0, **steps)
    s2s_loop.run(config, reporter)
    assert reporter.curve("codes_0")[0][1] > 2.2
    for stream in ("text", "user_text", "codes_0", "codes_1", "codes_2"):
        assert reporter.curve(stream)[-1][1] < 0.5, stream
    assert reporter.curve("text_right")[-1][1] > 0.9
    assert reporter.curve("dev_text")[-1][1] > 3.0, "dialogues never seen stay unguessable"


def test_two_passes_equal_one_of_twice_the_batch(tokens: Path, tmp_path: Path) -> None:
    curves = []
    for accumulate in (1, 2):
        reporter = MemoryReporter()
        config = tiny_s2s_run(
            tokens, tmp_path / str(accumulate), batch=4 // accumulate, accumulate=accumulate, **EVERYTHING
        )
        s2s_loop.run(config, reporter)
        curves.append([values for _, values in reporter.curve("loss") + reporter.curve("gradient_norm")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_packing_changes_no_loss_and_no_gradient(tokens: Path, tmp_path: Path, model: S2SConfig) -> None:
    """The same documents alone, packed, and packed in another order with room between."""
    rows = [token_row(number, frames, "train") for number, frames in ((1, 9), (2, 3), (3, 5))]
    first, second, third = (Crop(row, 0, row["num_frames"]) for row in rows)
    alone = _first_step(tokens, tmp_path, [[first], [second], [third]], 9, model)
    for packed in ([[first, second, third]], [[third, first], [second]], [[second], [third, first]]):
        together = _first_step(tokens, tmp_path, packed, 20, model)
        assert together == pytest.approx(alone, rel=1e-4)


def _first_step(
    tokens: Path, out: Path, rows: Sequence[Sequence[Crop]], frames: int, model: S2SConfig
) -> dict[str, float]:
    config = tiny_s2s_run(tokens, out, silence_weight=0.3, model=model)
    state = s2s_loop.build(config, ALONE)
    batch = token_batch(rows, frames, config.sizes)
    everyone = torch.ones_like(batch.voice, dtype=torch.bool)
    return {
        name: float(value)
        for name, value in s2s_loop.step(state, [Pass(batch, everyone, everyone, None)]).items()
    }


@pytest.mark.parametrize("model", MODELS)
def test_frames_of_no_document_have_no_part_in_a_step(tokens: Path, tmp_path: Path, model: S2SConfig) -> None:
    """Whatever stands there, it is the same step; only sums are taken in another order."""
    config = tiny_s2s_run(tokens, tmp_path, model=model)
    row = Crop(token_row(1, 7, "train"), 0, 7)
    batch = token_batch([[row]], 12, config.sizes)
    empty = batch.document < 0
    codes = [torch.where(empty[:, None], 3, c) for c in (batch.agent_codes, batch.user_codes)]
    texts = [torch.where(empty, 5, text) for text in (batch.text, batch.user_text)]
    other = batch._replace(agent_codes=codes[0], user_codes=codes[1], text=texts[0], user_text=texts[1])
    everyone = torch.ones(1, dtype=torch.bool)
    weights = []
    for each in (batch, other):
        state = s2s_loop.build(config, ALONE)
        s2s_loop.step(state, [Pass(each, everyone, everyone, None)])
        weights.append(state.model.state_dict())
    torch.testing.assert_close(weights[0], weights[1], atol=1e-7, rtol=0)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_workers_equal_one_with_twice_the_batch(tokens: Path, tmp_path: Path, parallel: str) -> None:
    """Also where dialogues of unequal lengths give the workers unequal numbers of tokens; and resumed.

    Evaluations between checkpoints leave nothing of the averaged weights behind.
    """
    alone_reporter, settings = MemoryReporter(), {**EVERYTHING, "evaluate_every": 3}
    alone = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "one", batch=4, **settings), alone_reporter)
    shared = tiny_s2s_run(tokens, tmp_path / "two", batch=1, accumulate=2, parallel=parallel, **settings)
    mp.spawn(_worker, (shared, _free_port(), tmp_path), nprocs=2)
    together = load_file(tmp_path / "two" / "step-000010" / "model.safetensors")
    torch.testing.assert_close(together, load_file(alone / "model.safetensors"), atol=2e-4, rtol=1e-3)
    curves = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]
    assert curves[0] == curves[1]
    for name in ("loss", "gradient_norm", "dev_loss"):
        expected = [value for _, value in alone_reporter.curve(name)]
        assert [value for _, value in curves[0][name]] == pytest.approx(expected, rel=1e-3)


def _worker(rank: int, config: S2STrainingConfig, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    reporter = MemoryReporter()
    s2s_loop.run(config, reporter)
    # Again from the middle: whole checkpoints are cut up as they were.
    s2s_loop.run(
        config.model_copy(update={"out": folder / "again"}), SilentReporter(), config.out / "step-000005"
    )
    if rank == 0:
        cards = [read_card(out / "step-000010") for out in (config.out, folder / "again")]
        assert cards[0].hash == cards[1].hash
    names = "loss", "gradient_norm", "dev_loss"
    torch.save({name: reporter.curve(name) for name in names}, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_card_names_what_the_model_was_trained_on(tokens: Path, tmp_path: Path) -> None:
    config = tiny_s2s_run(tokens, tmp_path, steps=1)
    card = read_card(s2s_loop.run(config, SilentReporter()), "s2s")
    manifest = ShardSet(tokens, "tokens", "train").manifest
    assert card.parents == {"tokens": manifest.hash, "codec": "codec-1", "tokenizer": "tokenizer-1"}
    assert (card.step, card.run_id) == (1, "none")
