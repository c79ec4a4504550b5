"""Dialogues that nobody held: every reply follows what was asked, whoever asked it and after whatever."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from paluku.corpus.shards import Manifest, ShardSet, Split, write_manifest, write_shard
from paluku.errors import CheckpointError, CorpusError
from paluku.registry.artefact import read_card
from paluku.s2s.losses import SOUNDS_AFTER_TEXT_FRAMES as AFTER
from paluku.tokens.text import PAD
from paluku.training import s2s_loop
from paluku.training.ports import SilentReporter
from paluku.training.recombination import Dialogue, Recombination
from paluku.training.s2s_data import Feed
from paluku.training.world import World
from tests.fakes.tokens import TINY_S2S, tiny_s2s_run

K = 2
SILENCE, TALKING = 0, 100  # codes of ours; those of a user are the ask's number
LATE = 3  # frames that a transcript comes late
INTENTS = {1: "weather", 2: "weather", 3: "weather", 4: "hello", 5: "hello", 6: "bye"}
LONG = 40
MODEL = TINY_S2S.model_copy(update={"num_codebooks": K, "codebook_size": 128, "text_vocab": 20})


def dialogue(
    name: str,
    asks: Sequence[tuple[int, int]],
    voice: str = "ravi",
    gap: int = 4,
    over: int = 0,
    split: str = "train",
) -> dict[str, Any]:
    """A row: each ask (its number, its frames), and after `gap` frames the reply of its intent.

    A reply's token is 10 more than the ask's number; `over` frames of it are spoken over by the next ask.
    """
    ours, theirs, said, told, turns = [], [], [], [], []
    for number, frames in asks:
        start = len(ours) - over if turns else 5
        length = len(ours)
        for stream, filling in ((ours, SILENCE), (said, PAD), (theirs, 0), (told, PAD)):
            stream += [filling] * (start + frames - length)
        theirs[start : start + frames] = [number] * frames
        told += [PAD] * LATE
        told[start + frames + LATE - 2 : start + frames + LATE] = [number, number]
        turns.append(
            {"text": f"ask {number}", "intent": INTENTS[number], "start": start, "end": start + frames}
        )
        ours += [SILENCE] * gap + [TALKING + number] * 20 + [SILENCE] * (AFTER + 6)
        said += [PAD] * gap + [10 + number] + [PAD] * (19 + AFTER + 6)
        theirs += [0] * (gap + 20 + AFTER + 6)
        told += [PAD] * (len(ours) - len(told))
    flat = {
        "agent_codes": np.tile(ours, K),
        "user_codes": np.tile(theirs, K),
        "text": said,
        "user_text": told,
    }
    return {
        "id": name,
        "split": split,
        "voice": voice,
        "style": "neutral",
        "num_frames": len(ours),
        **{stream: np.asarray(values, np.int16) for stream, values in flat.items()},
        "user_turns": turns,
    }


def tokens_of(folder: Path, rows: list[dict[str, Any]], codec: str = "codec-1") -> ShardSet:
    folder.mkdir()
    splits = {split: [row for row in rows if row["split"] == split] for split in get_args(Split)}
    shards = tuple(write_shard(folder, "tokens", split, 0, some) for split, some in splits.items() if some)
    parents = {"codec": codec, "tokenizer": "tokenizer-1"}
    write_manifest(folder, Manifest(kind="tokens", config_sha256="0" * 64, parents=parents, shards=shards))
    return ShardSet(folder, "tokens", "train")


def exchanges(row: dict[str, Any]) -> list[tuple[int, int, int, int]]:
    """Of each of the user's turns: the number heard, told and replied to, and frames until the reply."""
    user = row["user_codes"].reshape(K, -1)[0]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (user != 0).astype(int), [0]))))
    found = []
    for start, end in edges.reshape(-1, 2).tolist():
        said = end - 6 + np.flatnonzero(row["text"][end - 6 :] != PAD)
        told = row["user_text"][start : end + LATE]
        if len(said) and end + LATE <= len(user):
            assert (user[start:end] == user[start]).all()
            numbers = set(told[told != PAD].tolist())
            assert len(numbers) == 1, f"told {numbers}"
            reply = int(said[0])
            found.append((int(user[start]), numbers.pop(), int(row["text"][reply]) - 10, reply - end))
    return found


def drawn(recombination: Recombination, number: int, times: int = 60) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [recombination.row(number, random) for _ in range(times)]


@pytest.fixture
def tokens(tmp_path: Path) -> ShardSet:
    rows = [
        dialogue("a", [(4, 12), (1, LONG), (6, 15)]),
        dialogue("b", [(2, 25), (5, 30)]),
        dialogue("c", [(3, 10), (4, 9), (1, 31)], voice="priya"),
    ]
    return tokens_of(tmp_path / "tokens", rows)


def test_others_ask_the_same_and_get_the_reply_as_late_as_it_came(tokens: ShardSet) -> None:
    rows = drawn(Recombination(tokens, (), other_asks=1.0, other_endings=0.0), 0)
    asked: dict[int, set[int]] = {4: set(), 1: set(), 6: set()}
    for row in rows:
        for heard, told, reply, gap in exchanges(row):
            assert heard == told
            assert INTENTS[heard] == INTENTS[reply]
            assert gap == 4
            asked[reply].add(heard)
        replies = [reply for _, _, reply, _ in exchanges(row)]
        assert replies == [4, 1, 6][: len(replies)]
    assert asked == {4: {4, 5}, 1: {1, 2, 3}, 6: {6}}


def test_we_are_silent_while_something_else_is_asked_and_say_all_of_the_rest(tokens: ShardSet) -> None:
    [before] = tokens.rows([0])
    for row in drawn(Recombination(tokens, (), other_asks=1.0, other_endings=0.0), 0):
        ours, user = (row[name].reshape(K, -1) for name in ("agent_codes", "user_codes"))
        assert (ours == ours[0]).all()
        assert (ours[0, user[0] != 0] == SILENCE).all()
        runs = (ours[0] == TALKING + 4).sum(), (ours[0] == TALKING + 1).sum()
        assert runs == (20, 20)
        assert row["num_frames"] <= before["num_frames"]
        for name in ("text", "user_text"):
            assert len(row[name]) == row["num_frames"]
        assert {name: row[name] for name in ("id", "voice", "style")} == {
            name: before[name] for name in ("id", "voice", "style")
        }


def test_a_dialogue_goes_on_as_another_one_in_the_same_voice(tokens: ShardSet) -> None:
    recombination = Recombination(tokens, (), other_asks=0.0, other_endings=0.7)
    orders = set()
    for row in drawn(recombination, 0):
        found = exchanges(row)
        assert all(heard == told == reply and gap == 4 for heard, told, reply, gap in found)
        orders.add(tuple(reply for _, _, reply, _ in found))
    assert {reply for order in orders for reply in order} == {4, 1, 6, 2, 5}, "of Ravi's dialogues"
    assert {order[0] for order in orders} == {4, 2, 5}, "one that lasts as long, or any of a shorter one"
    assert any(order[:2] == (4, 2) for order in orders), "as another one does, from its second question on"
    assert (4, 1, 6) in orders, "and as it went on itself"


def test_both_at_once(tokens: ShardSet) -> None:
    for row in drawn(Recombination(tokens, (), other_asks=0.5, other_endings=0.5), 1):
        for heard, told, reply, gap in exchanges(row):
            assert heard == told
            assert INTENTS[heard] == INTENTS[reply]
            assert gap == 4


def test_nothing_is_exchanged_where_nothing_is_asked_for(tokens: ShardSet) -> None:
    [before] = tokens.rows([0])
    for row in drawn(Recombination(tokens, (), other_asks=0.0, other_endings=0.0), 0, times=3):
        assert all(np.array_equal(row[name], before[name]) for name in row)


def test_what_we_say_meanwhile_stays_where_it_was(tmp_path: Path) -> None:
    """An interruption, of which the reply goes on for six frames: an ask of two is too short for it."""
    rows = [dialogue("a", [(4, 12), (1, LONG)], over=AFTER + 12), dialogue("b", [(2, 2), (3, 45)])]
    tokens = tokens_of(tmp_path / "tokens", rows)
    heard = set()
    for row in drawn(Recombination(tokens, (), other_asks=1.0, other_endings=0.0), 0):
        user, ours = (row[name].reshape(K, -1)[0] for name in ("user_codes", "agent_codes"))
        ask = user[np.flatnonzero(user)[12]]
        start = int(np.flatnonzero(user == ask)[0])
        assert (ours[start : start + 6] == TALKING + 4).all()
        assert (ours[start + 6 : start + 20] == SILENCE).all()
        assert (ours == TALKING + 4).sum() == 20
        heard.add(int(ask))
    assert heard == {1, 3}


def test_a_turn_that_is_talked_over_stays_as_it_was(tmp_path: Path) -> None:
    over = dialogue("a", [(4, 12), (1, 18)], over=AFTER + 20)
    over["text"][over["user_turns"][1]["start"] :][:18] = 19
    tokens = tokens_of(tmp_path / "tokens", [over, dialogue("b", [(2, 30)])])
    second = slice(over["user_turns"][1]["start"], None)
    for row in drawn(Recombination(tokens, (), other_asks=1.0, other_endings=0.0), 0, times=20):
        assert (
            row["user_codes"].reshape(K, -1)[0, second] == over["user_codes"].reshape(K, -1)[0, second]
        ).all()


def test_turns_of_other_folders_are_heard_too(tokens: ShardSet, tmp_path: Path) -> None:
    more = tokens_of(tmp_path / "more", [dialogue("m", [(5, 14)])])
    recombination = Recombination(tokens, (more,), other_asks=1.0, other_endings=0.0)
    heard = {exchanges(row)[0][0] for row in drawn(recombination, 0)}
    assert heard == {4, 5}


def test_tokens_of_another_codec_and_tokens_without_intents_are_named(
    tokens: ShardSet, tmp_path: Path
) -> None:
    other = tokens_of(tmp_path / "other", [dialogue("m", [(5, 14)])], codec="codec-2")
    with pytest.raises(CheckpointError, match=r"asks_from: .*other was made with codec codec-2"):
        Recombination(tokens, (other,), other_asks=1.0, other_endings=0.0)
    row = dialogue("n", [(5, 14)])
    row["user_turns"][0]["intent"] = ""
    with pytest.raises(CorpusError, match="has an intent"):
        Recombination(tokens_of(tmp_path / "none", [row]), (), other_asks=1.0, other_endings=0.0)


def test_training_reads_them_the_same_on_any_worker_and_the_dev_split_is_as_it_was(tmp_path: Path) -> None:
    rows = [dialogue("a", [(4, 12), (1, LONG)]), dialogue("b", [(2, 25), (5, 30)])]
    folder = tmp_path / "tokens"
    tokens_of(folder, [*rows, dialogue("d", [(4, 12), (3, 40)], split="dev")])
    changes = {"model": MODEL, "max_frames": 400, "other_asks": 1.0}

    def feed(split: Split, rank: int = 0, size: int = 1, **more: Any) -> Feed:
        config = tiny_s2s_run(folder, tmp_path, **{**changes, **more})
        return Feed(config, ShardSet(folder, "tokens", split), World(rank, size, torch.device("cpu")))

    def heard(step: int, rank: int = 0, size: int = 1, **more: Any) -> list[list[int]]:
        return [
            row[0].tolist()
            for each in feed("train", rank, size, **more).step(step)
            for row in each.tokens.user_codes
        ]

    alone = [heard(step, batch=2) for step in range(8)]
    assert alone == [heard(step, batch=2) for step in range(8)]
    assert alone == [heard(step, 0, 2, batch=1) + heard(step, 1, 2, batch=1) for step in range(8)]
    assert alone != [heard(step, batch=2, other_asks=0.0, other_endings=0.0) for step in range(8)]
    [(judged, _)] = feed("dev", batch=1).beginnings()
    assert {code for code in judged.tokens.user_codes[0, 0].tolist() if code} == {4, 3}


def test_folders_of_asks_that_nothing_is_taken_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="set other_asks"):
        tiny_s2s_run(tmp_path, tmp_path, asks_from=(tmp_path,))


def test_of_equally_long_dialogues_none_becomes_shorter(tmp_path: Path) -> None:
    asks = [(4, 12), (1, 20), (2, 20), (5, 20), (6, 12)]
    tokens = tokens_of(tmp_path / "tokens", [dialogue(name, asks) for name in "abcd"])
    [before] = tokens.rows([0])
    for row in drawn(Recombination(tokens, (), other_asks=0.0, other_endings=0.6), 0, times=30):
        assert row["num_frames"] == before["num_frames"]


@pytest.mark.parametrize("changed", ["text", "user_codes", "user_turns"])
def test_tokens_that_do_not_fit_are_named(tmp_path: Path, changed: str) -> None:
    row = dialogue("a", [(4, 12)])
    row[changed] = None if changed == "user_turns" else row[changed][:-1]
    tokens = tokens_of(tmp_path / "tokens", [row])
    with pytest.raises(CorpusError, match=rf"tokens of a do not fit their .*{changed}"):
        Recombination(tokens, (), other_asks=1.0, other_endings=0.0)


def test_turns_that_overlap_or_last_no_frame_are_left_alone(tmp_path: Path) -> None:
    row = dialogue("a", [(4, 12), (1, LONG)])
    first, second = row["user_turns"]
    within = second | {"start": second["start"] + 5, "end": second["start"] + 9}
    empty = first | {"start": 1, "end": 1}
    row["user_turns"] = [empty, first, second, within]
    [turn] = Dialogue(row).turns
    assert (turn.start, turn.end) == (first["start"], first["end"])


def test_a_run_names_where_its_asks_came_from_and_goes_on_with_no_others(tmp_path: Path) -> None:
    rows = [dialogue("a", [(4, 12), (1, LONG)]), dialogue("d", [(4, 12), (3, 40)], split="dev")]
    for name, held in (("tokens", rows), ("more", rows), ("others", [dialogue("m", [(5, 14)])])):
        tokens_of(tmp_path / name, held)
    changes = {"model": MODEL, "max_frames": 200, "steps": 2, "other_asks": 1.0}
    config = tiny_s2s_run(tmp_path / "tokens", tmp_path / "out", asks_from=(tmp_path / "more",), **changes)
    folder = s2s_loop.run(config, SilentReporter())
    assert read_card(folder, "s2s").parents.keys() == {"tokens", "codec", "tokenizer", "asks"}
    s2s_loop.run(config.model_copy(update={"steps": 3}), SilentReporter(), folder)
    others = config.model_copy(update={"steps": 3, "asks_from": (tmp_path / "others",)})
    with pytest.raises(CheckpointError, match="was trained on asks"):
        s2s_loop.run(others, SilentReporter(), folder)
    none = config.model_copy(update={"steps": 3, "asks_from": ()})
    with pytest.raises(CheckpointError, match="was trained with asks_from"):
        s2s_loop.run(none, SilentReporter(), folder)
    alone = s2s_loop.run(none.model_copy(update={"out": tmp_path / "alone"}), SilentReporter())
    with pytest.raises(CheckpointError, match="was trained without asks_from"):
        s2s_loop.run(config, SilentReporter(), alone)
