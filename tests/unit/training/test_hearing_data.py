"""Turns cut out of tokens, in batches that are the same whenever they are asked for."""

from pathlib import Path

import numpy as np
import pytest

from paluku.corpus.shards import Manifest, ShardSet, write_manifest, write_shard
from paluku.errors import CorpusError
from paluku.tokens.sounds import alphabet, spelled
from paluku.tokens.text import default_tokenizer
from paluku.training.hearing_data import MARGIN, UNKNOWN, Lessons, Turn, turns_of, worsened
from tests.fakes.tokens import TINY_S2S, K, V, token_row

MODEL = TINY_S2S
TEXTS = ("కల", "మల గల", "కమలం", "హా")


def split_of(folder: Path, rows: list[dict]) -> ShardSet:
    shard = write_shard(folder, "tokens", "train", 0, rows)
    write_manifest(folder, Manifest(kind="tokens", config_sha256="0" * 64, shards=(shard,)))
    return ShardSet(folder, "tokens", "train")


def turn(text: str, start: int, end: int, intent: str = "") -> dict:
    return {"text": text, "intent": intent, "start": start, "end": end}


def test_a_turn_has_the_silence_around_it_but_no_other_turn(tmp_path: Path) -> None:
    row = token_row(0, 100, "train")
    row["user_turns"] = [
        turn("కల", 5, 20, "a.b"),
        turn("...", 22, 24),
        turn("మల", 30, 60),
        turn("గల", 58, 100),
    ]
    found = turns_of([split_of(tmp_path, [row])], MODEL)
    codes = np.asarray(row["user_codes"]).reshape(K, 100)
    assert [(t.text, t.intent) for t in found] == [("కల", "a.b"), ("మల", ""), ("గల", "")]
    for each, (first, last) in zip(found, ((0, 22), (24, 60), (58, 100)), strict=True):
        assert np.array_equal(each.codes, codes[:, first:last])
    assert MARGIN > 30 - 24, "so that the turn before is what limits it"


def test_tokens_that_nobody_speaks_in_are_refused_and_so_are_too_few_codebooks(tmp_path: Path) -> None:
    silent = split_of(tmp_path / "silent", [token_row(0, 20, "train")])
    with pytest.raises(CorpusError, match="nothing that a user says has a text; extract tokens of dialogues"):
        turns_of([silent], MODEL)
    for update in ({"num_codebooks": K + 1}, {"codebook_size": V - 1}):
        with pytest.raises(CorpusError, match=rf"has {K} codebooks and codes up to {V - 1}, the model hears"):
            turns_of([silent], MODEL.model_copy(update=update))


def test_what_has_no_frames_is_no_turn_and_a_turn_within_another_ends_nothing(tmp_path: Path) -> None:
    row = token_row(0, 100, "train")
    row["user_turns"] = [turn("కల", 0, 60), turn("మల", 20, 30), turn("గల", 65, 90), turn("కల", 100, 100)]
    found = turns_of([split_of(tmp_path, [row])], MODEL)
    assert [t.codes.shape[1] for t in found] == [60, 22, 40]


def lessons(frames: int = 200) -> Lessons:
    random = np.random.default_rng(0)
    turns = [
        Turn(random.integers(0, V, (K, 10 + n)).astype(np.int16), TEXTS[n % 4], ("a.b", "", "c.d")[n % 3])
        for n in range(40)
    ]
    turns.append(Turn(np.zeros((K, 3), np.int16), "కమలం", "a.b"))  # more sounds than frames
    return Lessons(turns, alphabet(TEXTS), ["a.b", "c.d"], default_tokenizer(), frames, V, seed=1)


def test_when_no_turn_has_the_frames_for_its_sounds_it_is_said() -> None:
    short = [Turn(np.zeros((K, 3), np.int16), "కమలం", "")]
    with pytest.raises(CorpusError, match="none of 1 turns has as many frames as sounds"):
        Lessons(short, alphabet(TEXTS), [], default_tokenizer(), 200, V, seed=1)


def test_batches_hold_every_turn_once_and_are_as_large_as_asked() -> None:
    data, seen = lessons(), []
    for lesson in data.all():
        assert lesson.codes.shape[0] * lesson.codes.shape[2] <= 200
        assert lesson.codes.shape[2] == lesson.frames.max()
        for row, frames in zip(lesson.codes, lesson.frames, strict=True):
            assert (row[:, frames:] == V).all()
            assert (row[:, :frames] < V).all()
        seen += lesson.frames.tolist()
        spoken = lesson.sounds.split(lesson.sound_counts.tolist())
        texts = ["".join(alphabet(TEXTS)[n - 1] for n in sounds) for sounds in spoken]
        assert set(texts) <= {spelled(text) for text in TEXTS}
        tokens = lesson.tokens.split(lesson.token_counts.tolist())
        decoded = [default_tokenizer().decode(each.tolist()).strip() for each in tokens]
        assert [spelled(text) for text in decoded] == texts
        assert set(lesson.intent.tolist()) <= {UNKNOWN, 0, 1}
    assert sorted(seen) == list(range(10, 50))


def test_a_step_is_the_same_again_and_an_epoch_has_every_batch() -> None:
    data = lessons()
    for first, second in zip(data.step(7, 0.5, 0.1), lessons().step(7, 0.5, 0.1), strict=True):
        assert first.equal(second)
    whole = sum(len(lesson.frames) for lesson in data.all())
    for epoch in (0, 1):
        steps = range(epoch * len(data), (epoch + 1) * len(data))
        assert sum(len(data.step(step, 0.0, 0.0).frames) for step in steps) == whole
    orders = {tuple(data.order(epoch)) for epoch in range(5)}
    assert len(orders) > 1


def test_what_is_worsened_is_what_was_said_slower_or_faster_and_with_gaps() -> None:
    codes = np.arange(200).reshape(1, 200).repeat(3, axis=0)
    lengths = set()
    for seed in range(30):
        clean = worsened(codes, np.random.default_rng(seed), 0.0, 0.0, 999)
        assert (np.diff(clean[0]) >= 0).all()
        assert (clean == clean[0]).all()
        lengths.add(clean.shape[1])
        assert 0.8 * 200 < clean.shape[1] < 1.2 * 200
        hidden = worsened(codes, np.random.default_rng(seed), 0.0, 0.1, 999) == 999
        assert (hidden == hidden[0]).all()
        assert 0 < hidden[0].mean() < 0.3
        few = worsened(codes, np.random.default_rng(seed), 1.0, 0.0, 999) == 999
        assert not few[0].any()
        assert (few == few[:, :1]).all()
    assert min(lengths) < 200 < max(lengths)
    assert codes.max() == 199, "in a new array"
