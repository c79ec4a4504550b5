"""LoRA: only adapters and conditioning learn, and what is saved says what the adapted model says."""

import sys
from pathlib import Path

import pytest
import torch

from paluku.corpus.shards import ShardSet
from paluku.errors import CheckpointError, ConfigError
from paluku.registry.models import load_s2s
from paluku.torchaudio_cpu import prepare_torchaudio
from paluku.training import s2s_loop
from paluku.training.ports import SilentReporter
from paluku.training.s2s_config import LoraConfig
from paluku.training.s2s_data import Feed
from paluku.training.world import World
from tests.fakes.tokens import tiny_s2s_run, write_tokens

ALONE = World(0, 1, torch.device("cpu"))
LORA = LoraConfig(rank=2, alpha=8)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"))


def test_merged_weights_say_what_the_adapted_model_says(tokens: Path, tmp_path: Path) -> None:
    prepare_torchaudio()
    pytest.importorskip("peft")
    base = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "base", steps=3), SilentReporter())
    config = tiny_s2s_run(tokens, tmp_path / "out", lora=LORA, begin_from=str(base), steps=4)
    state = s2s_loop.build(config, ALONE)
    feed = Feed(config, ShardSet(tokens, "tokens", "train"), ALONE)
    for number in range(config.steps):
        s2s_loop.step(state, feed.step(number))
    folder = s2s_loop.save(state, SilentReporter(), s2s_loop.parents_of(feed.tokens))
    card, plain = load_s2s(folder)
    assert card.parents["begin_from"] == load_s2s(base)[0].hash

    each = feed.step(0)[0].tokens
    rows = plain.conditioning.rows(each.voice, each.style)
    with torch.no_grad(), state.average.averaged(state.model.eval()):
        args = each.agent_codes, each.user_codes, each.text, each.document, rows
        for adapted, merged in zip(state.model(*args), plain(*args), strict=True):
            torch.testing.assert_close(adapted, merged, atol=1e-5, rtol=1e-4)
    was = load_s2s(base)[1].state_dict()
    changed = {name for name, weight in plain.state_dict().items() if not torch.equal(weight, was[name])}
    assert "temporal.blocks.0.attention.project_in.weight" in changed
    assert "conditioning.style.weight" in changed
    assert not changed & {"embedding.table", "temporal.norm.weight", "conditioning.voices"}


def test_an_adapted_run_is_resumed(tokens: Path, tmp_path: Path) -> None:
    prepare_torchaudio()
    pytest.importorskip("peft")
    whole = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "a", lora=LORA), SilentReporter())
    again = tiny_s2s_run(tokens, tmp_path / "b", lora=LORA)
    ended = s2s_loop.run(again, SilentReporter(), tmp_path / "a" / "step-000005")
    weights = [load_s2s(folder)[1].state_dict() for folder in (whole, ended)]
    torch.testing.assert_close(weights[0], weights[1], atol=0, rtol=0)
    with pytest.raises(CheckpointError, match="made with another `lora`"):
        s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "c"), SilentReporter(), ended)


def test_without_peft_it_says_what_to_install(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="pip install peft, or leave lora out"):
        s2s_loop.build(tiny_s2s_run(tokens, tmp_path, lora=LORA), ALONE)
