"""A model's hearing, trained by itself: it learns the letters, and the rest of a run begins with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paluku.corpus.shards import Manifest, ShardSet, write_manifest, write_shard
from paluku.errors import CheckpointError, CorpusError, StorageError
from paluku.registry.artefact import read_card
from paluku.registry.models import load_s2s
from paluku.s2s.model import HearingConfig, S2SModel
from paluku.tokens.batches import Sizes
from paluku.tokens.letters import Letters
from paluku.tokens.text import PAD, default_tokenizer
from paluku.training import hearing_loop, s2s_loop
from paluku.training.hearing_loop import SILENT_FRAMES, HearingTrainingConfig, realigned, windows_of
from paluku.training.ports import SilentReporter
from paluku.training.s2s_begin import begin_
from paluku.training.s2s_config import LoraConfig
from paluku.training.world import current_world
from tests.fakes.tokens import TINY_S2S, K, V, tiny_s2s_run, token_row, write_tokens
from tests.fakes.training import MemoryReporter

HEARS = TINY_S2S.model_copy(
    update={"hearing": HearingConfig(window=3, dim=8, hidden=16, dropout=0.0), "text_vocab": 1024}
)
TOKENIZER = default_tokenizer()
SIZES = Sizes(K, V, 1024)


def dialogue(number: int, split: str) -> dict[str, Any]:
    """One word, ten times: in each of its letters' frames the user's first code is the letter's own."""
    row = token_row(number, 100, split)
    row["user_text"] = np.zeros(100, np.int16)
    for word in range(10):
        tokens = TOKENIZER.encode(" మనగలక"[: 4 + word % 3])
        row["user_text"][10 * word + 9 - len(tokens) : 10 * word + 9] = tokens
    letters = Letters(TOKENIZER).heard(row["user_text"].astype(np.int64))
    codes = row["user_codes"].reshape(K, -1)
    codes[0] = letters % V
    return row


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    shards = tuple(
        write_shard(folder, "tokens", split, 0, [dialogue(n, split) for n in range(4)])
        for split in ("train", "dev")
    )
    parents = {"codec": "codec-1", "dialogues": "dialogues-1", "tokenizer": TOKENIZER.digest()}
    write_manifest(folder, Manifest(kind="tokens", config_sha256="0" * 64, parents=parents, shards=shards))
    return folder


def config(tokens: Path, out: Path, **changes: Any) -> HearingTrainingConfig:
    values = {
        "tokens": tokens,
        "out": out,
        "model": HEARS,
        "codes_from": None,
        "steps": 300,
        "batch": 32,
        "learning_rate": 1e-2,
        "warmup_steps": 5,
        "hide_frames": 0.0,
        "drop_codebooks": 0.0,
        "weight_decay": 0.0,
        "evaluate_every": 150,
        "realign_at": (200,),
    }
    return HearingTrainingConfig.model_validate(values | changes)


def test_it_learns_to_hear_letters_and_a_run_begins_with_it(tokens: Path, tmp_path: Path) -> None:
    reporter = MemoryReporter()
    folder = hearing_loop.run(config(tokens, tmp_path / "out"), reporter)
    assert [step for step, _ in reporter.curve("dev_letters")] == [150, 300]
    assert reporter.curve("dev_letters_right")[-1][1] > 0.8
    card, trained = load_s2s(folder)
    assert card.parents == {"codec": "codec-1", "tokenizer": TOKENIZER.digest()}
    model = S2SModel(HEARS)
    begin_(model, str(folder), "none")
    assert torch.equal(model.hearing.wide.weight, trained.hearing.wide.weight)


def test_a_model_goes_on_hearing_and_the_rest_of_it_stays(tokens: Path, tmp_path: Path) -> None:
    first = hearing_loop.run(config(tokens, tmp_path / "first"), SilentReporter())
    reporter = MemoryReporter()
    second = hearing_loop.run(
        config(tokens, tmp_path / "second", begin_from=first, steps=20, evaluate_every=20), reporter
    )
    assert reporter.curve("dev_letters_right")[0][1] > 0.8
    (card, _), (continued, _) = load_s2s(first), load_s2s(second)
    assert continued.parents["begin_from"] == card.hash
    was, now = (load_s2s(folder)[1].state_dict() for folder in (first, second))
    assert {name.split(".")[0] for name in was if not torch.equal(was[name], now[name])} == {"hearing"}
    other = write_card_of_another_codec(first)
    with pytest.raises(
        CheckpointError, match="trained with codec another, the tokens were made with codec-1"
    ):
        hearing_loop.run(config(tokens, tmp_path / "third", begin_from=other), SilentReporter())


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_a_run_that_freezes_it_trains_the_rest(tokens: Path, tmp_path: Path, lora: LoraConfig | None) -> None:
    if lora is not None:
        pytest.importorskip("peft")
    begun = hearing_loop.run(config(tokens, tmp_path / "heard", steps=5), SilentReporter())
    asked = tiny_s2s_run(
        tokens,
        tmp_path / "s2s",
        model=HEARS,
        begin_from=str(begun),
        freeze_hearing=True,
        lora=lora,
        steps=3,
        batch=2,
    )
    reporter = MemoryReporter()
    ended = s2s_loop.run(asked, reporter)
    assert not reporter.curve("letters")
    was, now = (load_s2s(folder)[1].state_dict() for folder in (begun, ended))
    changed = {name for name in was if not torch.equal(was[name], now[name])}
    assert {name for name in changed if name.startswith("hearing.")} == {"hearing.out.weight"}
    assert {"temporal", "depth", "text_head"} <= {name.split(".")[0] for name in changed}


def write_card_of_another_codec(folder: Path) -> Path:
    card = read_card(folder)
    parents = {**card.parents, "codec": "another"}
    (folder / "card.json").write_text(
        card.model_copy(update={"parents": parents}).to_json(), encoding="utf-8"
    )
    return folder


def test_windows_are_what_a_dialogue_was_up_to_the_letter(tokens: Path) -> None:
    split = ShardSet(tokens, "tokens", "train")
    windows = windows_of(split, Letters(TOKENIZER), SIZES)
    torch.manual_seed(0)
    model = S2SModel(HEARS).eval()
    codes, lived, letter = windows.batch(torch.arange(len(windows.letter)), 3)
    hidden, first = model.hearing.last(codes, lived), 0
    for row in split.rows(range(len(split))):
        user = torch.from_numpy(np.asarray(row["user_codes"], np.int64).reshape(1, K, -1))
        whole = model.hearing(user, torch.arange(user.shape[2])[None]).hidden[0]
        text = np.asarray(row["user_text"], np.int64)
        said, asked = (
            torch.from_numpy(Letters(TOKENIZER).heard(text)),
            torch.zeros(len(text), dtype=torch.bool),
        )
        for word in Letters(TOKENIZER).words(text):
            asked[max(0, word.start - SILENT_FRAMES) : word.end] = True
        here = slice(first, first + int(asked.sum()))
        torch.testing.assert_close(hidden[here], whole[asked])
        assert torch.equal(letter[here], said[asked])
        first = here.stop
    assert first == len(letter)
    for word in windows.words:
        assert set(letter[word.first : word.first + word.frames].tolist()) <= set(word.letters)


def spoken_unevenly(number: int, split: str) -> tuple[dict[str, Any], np.ndarray]:
    """Ten words of any three letters, each as long as it happens to be; and the letter of every frame."""
    random = np.random.default_rng((number, split == "dev"))
    row = token_row(number, 100, split)
    text = np.zeros(100, np.int64)
    for word in range(10):
        tokens = TOKENIZER.encode(" " + "".join(random.choice(list("మనగలకసర"), 3)))
        text[10 * word + 10 - len(tokens) : 10 * word + 10] = tokens
    true = Letters(TOKENIZER).heard(text)
    for word in Letters(TOKENIZER).words(text):
        begins = np.sort(random.choice(np.arange(1, word.end - word.start), len(word.letters) - 1, False))
        true[word.start : word.end] = np.repeat(
            word.letters, np.diff((0, *begins, word.end - word.start)).astype(int)
        )
    row["user_text"] = text.astype(np.int16)
    row["user_codes"].reshape(K, -1)[:2] = true % V, true // V % V
    return row, true


def test_letters_move_to_where_they_are_heard(tmp_path: Path) -> None:
    made = {split: [spoken_unevenly(n, split) for n in range(30)] for split in ("train", "dev")}
    shards = tuple(
        write_shard(tmp_path, "tokens", split, 0, [row for row, _ in rows]) for split, rows in made.items()
    )
    parents = {"codec": "codec-1", "dialogues": "dialogues-1", "tokenizer": TOKENIZER.digest()}
    write_manifest(tmp_path, Manifest(kind="tokens", config_sha256="0" * 64, parents=parents, shards=shards))
    asked = config(tmp_path, tmp_path / "out", steps=500, realign_at=(), evaluate_every=500)
    _, trained = load_s2s(hearing_loop.run(asked, SilentReporter()))
    windows = windows_of(ShardSet(tmp_path, "tokens", "train"), Letters(TOKENIZER), SIZES)
    moved = realigned(asked, trained.hearing, windows, current_world())
    true = torch.from_numpy(np.concatenate([each for _, each in made["train"]]))
    at = windows.place[windows.letter != PAD]
    before = (windows.letter[windows.letter != PAD] != true[at]).float().mean()
    after = (moved.letter[windows.letter != PAD] != true[at]).float().mean()
    assert before > 0.2
    assert after < 0.25 * before


def test_tokens_that_do_not_fit_are_refused(tokens: Path, tmp_path: Path) -> None:
    fewer = HEARS.model_copy(update={"num_codebooks": K - 1})
    with pytest.raises(CorpusError, match="to the codec's"):
        hearing_loop.run(config(tokens, tmp_path / "out", model=fewer), SilentReporter())
    silent = [token_row(0, 20, "train") | {"user_text": np.zeros(20, np.int16)}]
    parents = {"codec": "codec-1", "dialogues": "dialogues-1", "tokenizer": TOKENIZER.digest()}
    shards = (write_shard(tmp_path, "tokens", "train", 0, silent),)
    write_manifest(tmp_path, Manifest(kind="tokens", config_sha256="0" * 64, parents=parents, shards=shards))
    with pytest.raises(CorpusError, match="no letter of the user's is heard in split train"):
        hearing_loop.run(config(tmp_path, tmp_path / "out"), SilentReporter())


def test_a_folder_that_is_there_is_not_replaced(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is there already"):
        hearing_loop.run(config(tokens, tmp_path), SilentReporter())


def test_what_cannot_be_trained_is_refused(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.hearing is missing"):
        config(tokens, tmp_path / "out", model=TINY_S2S)
    other = write_tokens(tmp_path / "tokens")
    with pytest.raises(CheckpointError, match="made with tokenizer-1; give"):
        hearing_loop.run(config(other, tmp_path / "out"), SilentReporter())
    with pytest.raises(CheckpointError, match="codes_from"):
        hearing_loop.run(config(tokens, tmp_path / "out", codes_from="default"), SilentReporter())
