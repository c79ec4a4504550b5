"""A model's hearing, trained by itself: it learns sounds, words and intents, and a run begins with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paluku.corpus.shards import Manifest, write_manifest, write_shard
from paluku.errors import CheckpointError, CorpusError
from paluku.registry.artefact import read_card
from paluku.registry.models import load_s2s
from paluku.s2s.model import HearingConfig, S2SModel
from paluku.tokens.sounds import spelled
from paluku.tokens.text import default_tokenizer
from paluku.training import hearing_loop, s2s_loop
from paluku.training.hearing_loop import HearingTrainingConfig, collapsed
from paluku.training.ports import SilentReporter
from paluku.training.s2s_begin import begin_
from paluku.training.s2s_config import LoraConfig
from tests.fakes.tokens import TINY_S2S, K, V, tiny_s2s_run, token_row
from tests.fakes.training import MemoryReporter

HEARING = HearingConfig(
    dim=16, width=32, hidden=48, dilations=(1, 2), sounds_after=1, evidence=32, dropout=0.0, drop_evidence=0.0
)
HEARS = TINY_S2S.model_copy(update={"hearing": HEARING, "text_vocab": 1024})
TOKENIZER = default_tokenizer()
SPOKEN = {"మనం": "ask.us", "గల": "ask.them", "లక గమన": "", "కమలం": "ask.flower"}


def dialogue(number: int, split: str) -> dict[str, Any]:
    """Three turns; each sound lasts two or three frames, in which the first two codes tell it."""
    random = np.random.default_rng((number, split == "dev"))
    row = token_row(number, 120, split)
    codes = row["user_codes"].reshape(K, -1)
    codes[:] = 0
    row["user_turns"], at = [], 3
    for text in random.choice(list(SPOKEN), 3):
        start = at
        for sound in spelled(text):
            end = at + random.integers(2, 4)
            codes[0, at:end], codes[1, at:end] = 1 + ord(sound) % (V - 1), ord(sound) // (V - 1) % V
            at = end
        turn = {"text": text, "intent": SPOKEN[text], "start": start, "end": at}
        row["user_turns"].append(turn)
        at += 4
    return row


def write(folder: Path, codec: str = "codec-1", more: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shards = tuple(
        write_shard(folder, "tokens", split, 0, [dialogue(n, split) for n in range(count)])
        for split, count in (("train", 30 + more), ("dev", 6))
    )
    parents = {"codec": codec, "dialogues": "dialogues-1", "tokenizer": TOKENIZER.digest()}
    write_manifest(folder, Manifest(kind="tokens", config_sha256="0" * 64, parents=parents, shards=shards))
    return folder


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tokens"))


def config(tokens: Path | tuple[Path, ...], out: Path, **changes: Any) -> HearingTrainingConfig:
    values = {
        "tokens": tokens,
        "out": out,
        "model": HEARS,
        "codes_from": None,
        "steps": 240,
        "frames": 300,
        "learning_rate": 1e-2,
        "warmup_steps": 5,
        "hide_frames": 0.0,
        "drop_codebooks": 0.0,
        "evaluate_every": 120,
        "checkpoint_every": 120,
        "bfloat16": False,
    }
    return HearingTrainingConfig.model_validate(values | changes)


def test_it_learns_to_hear_and_a_run_begins_with_it(tokens: Path, tmp_path: Path) -> None:
    reporter = MemoryReporter()
    folder = hearing_loop.run(config(tokens, tmp_path / "out"), reporter)
    assert [step for step, _ in reporter.curve("dev_sound_error")] == [120, 240]
    assert reporter.curve("dev_sound_error")[-1][1] < 0.2
    assert reporter.curve("dev_token_error")[-1][1] < 0.3
    assert reporter.curve("dev_intents_right")[-1][1] > 0.8
    card, trained = load_s2s(folder)
    assert {name: card.parents[name] for name in ("codec", "tokenizer")} == {
        "codec": "codec-1",
        "tokenizer": TOKENIZER.digest(),
    }
    model = S2SModel(HEARS)
    begin_(model, str(folder), "none")
    assert torch.equal(model.hearing.narrow.weight, trained.hearing.narrow.weight)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tokens: Path, tmp_path: Path) -> None:
    asked = config(tokens, tmp_path / "out", steps=20, checkpoint_every=10)
    whole = hearing_loop.run(asked, SilentReporter())
    weights = load_s2s(whole)[1].state_dict()
    half = tmp_path / "out" / "step-000010"
    again = asked.model_copy(update={"out": tmp_path / "again"})
    resumed = load_s2s(hearing_loop.run(again, SilentReporter(), half))[1].state_dict()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    other = write(tmp_path / "other", more=1)
    with pytest.raises(CheckpointError, match=r"was trained on tokens \w+, not \w+"):
        hearing_loop.run(config(other, tmp_path / "third", steps=20), SilentReporter(), half)


def test_a_model_goes_on_hearing_and_the_rest_of_it_stays(tokens: Path, tmp_path: Path) -> None:
    first = hearing_loop.run(config(tokens, tmp_path / "first", steps=5), SilentReporter())
    second = hearing_loop.run(
        config(tokens, tmp_path / "second", begin_from=first, steps=5), SilentReporter()
    )
    (card, _), (continued, _) = load_s2s(first), load_s2s(second)
    assert continued.parents["begin_from"] == card.hash
    assert changed(first, second) == {"hearing"}
    larger = HEARS.model_copy(update={"hearing": HEARING.model_copy(update={"hidden": 64})})
    third = hearing_loop.run(
        config(tokens, tmp_path / "third", begin_from=first, model=larger, steps=2), SilentReporter()
    )
    assert load_s2s(third)[1].config == larger
    assert changed(first, third) == {"hearing"}, "a hearing of other sizes begins anew"
    quiet = HEARS.model_copy(update={"hearing": HEARING.model_copy(update={"dropout": 0.3})})
    again = hearing_loop.run(
        config(tokens, tmp_path / "again", begin_from=first, model=quiet, steps=1, learning_rate=1e-9),
        SilentReporter(),
    )
    torch.testing.assert_close(
        *(load_s2s(folder)[1].hearing.narrow.weight for folder in (first, again)), rtol=0, atol=1e-6
    )
    with pytest.raises(CheckpointError, match=r"has other settings than `model` .*hearing"):
        begin_(S2SModel(larger), str(first), "none")
    asked = config(tokens, tmp_path / "fourth", begin_from=write_card_of_another_codec(first))
    with pytest.raises(
        CheckpointError, match="trained with codec another, the tokens were made with codec-1"
    ):
        hearing_loop.run(asked, SilentReporter())


def changed(first: Path, second: Path) -> set[str]:
    was, now = (load_s2s(folder)[1].state_dict() for folder in (first, second))
    return {
        name.split(".")[0]
        for name in now
        if was[name].shape != now[name].shape or not torch.equal(was[name], now[name])
    }


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_the_run_that_goes_on_from_it_trains_the_rest(
    tokens: Path, tmp_path: Path, lora: LoraConfig | None
) -> None:
    if lora is not None:
        pytest.importorskip("peft")
    begun = hearing_loop.run(config(tokens, tmp_path / "heard", steps=5), SilentReporter())
    asked = tiny_s2s_run(
        tokens,
        tmp_path / "s2s",
        model=HEARS,
        begin_from=str(begun),
        lora=lora,
        steps=3,
        batch=2,
    )
    ended = s2s_loop.run(asked, SilentReporter())
    was, now = (load_s2s(folder)[1].state_dict() for folder in (begun, ended))
    moved = {name for name in was if not torch.equal(was[name], now[name])}
    assert {name for name in moved if name.startswith("hearing.")} == {"hearing.out.weight"}
    assert {"temporal", "depth", "text_head"} <= {name.split(".")[0] for name in moved}


def write_card_of_another_codec(folder: Path) -> Path:
    card = read_card(folder)
    parents = {**card.parents, "codec": "another"}
    (folder / "card.json").write_text(
        card.model_copy(update={"parents": parents}).to_json(), encoding="utf-8"
    )
    return folder


def test_folders_of_tokens_must_fit_each_other(tokens: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", codec="codec-2")
    with pytest.raises(CheckpointError, match=r"made with codec codec-2, .* with codec-1; extract both"):
        hearing_loop.run(config((tokens, other), tmp_path / "out"), SilentReporter())
    silent = tmp_path / "silent"
    silent.mkdir()
    shard = write_shard(silent, "tokens", "train", 0, [dialogue(0, "train")])
    write_manifest(silent, Manifest(kind="tokens", config_sha256="0" * 64, shards=(shard,)))
    with pytest.raises(CorpusError, match=r"none of .* has a split dev"):
        hearing_loop.run(config(silent, tmp_path / "out"), SilentReporter())


def test_a_tokenizer_that_the_model_has_no_room_for_is_refused(tokens: Path, tmp_path: Path) -> None:
    small = HEARS.model_copy(update={"text_vocab": 1000})
    with pytest.raises(CheckpointError, match=r"has 1024 tokens, the model 1000; set model\.text_vocab"):
        hearing_loop.run(config(tokens, tmp_path / "out", model=small), SilentReporter())


def test_a_best_path_is_its_targets() -> None:
    assert collapsed(torch.tensor([0, 3, 3, 0, 3, 2, 2, 0])).tolist() == [3, 3, 2]
    assert not len(collapsed(torch.tensor([0, 0])))
