import json
import subprocess
import sys
from pathlib import Path

import pytest

from paluku.corpus.turns import read_intents
from paluku.errors import ConfigError, CorpusError
from paluku.tokens.merges import learned
from paluku.tokens.text import TextTokenizer, default_tokenizer, read_tokenizer

ROOT = Path(__file__).resolve().parents[3]
JOINED = 2  # merges that spell the joiner


def test_the_most_frequent_pair_is_joined_first() -> None:
    tokenizer = learned(["కక కక కక గఘ గఘ చ"], 385 + JOINED + 3)
    spelled = [tokenizer.spelling(token).decode() for token in range(385 + JOINED, tokenizer.vocab_size)]
    assert sorted(spelled[:2]) == [" క", " కక"]
    assert spelled[2] in (" గ", "గఘ")


def test_no_token_spans_words_or_marks() -> None:
    tokenizer = learned([intent.replies[0].text for intent in read_intents()][:100], 700)
    for token in range(385 + JOINED, 700):
        spelled = tokenizer.spelling(token).decode()
        assert " " not in spelled[1:]
        assert not set(spelled) & set(",.?!-'\"")


def test_what_is_outside_script_and_ascii_stays_bytes() -> None:
    tokenizer = learned(["కగ–కగ कगकग"] * 9, 385 + JOINED + 2)
    assert tokenizer.encode("क") == TextTokenizer().encode("क")
    assert len(tokenizer.encode(" కగ")) == 1


def test_too_few_texts_are_said() -> None:
    with pytest.raises(CorpusError, match="give 389 tokens, not 400"):
        learned(["కక"], 400)


def test_a_vocabulary_without_room_for_the_alphabet_is_refused() -> None:
    with pytest.raises(ConfigError, match="size is 386; give at least 387"):
        learned(["కక"], 386)
    assert learned(["కక"], 387).vocab_size == 387


def test_the_job_learns_the_same_from_the_same(tmp_path: Path) -> None:
    text = tmp_path / "more.txt"
    text.write_text("ఫోన్\u200cలో మాట\n" * 3, encoding="utf-8")
    said = []
    for name in ("one", "two"):
        command = [sys.executable, "-m", "jobs.train_tokenizer", str(tmp_path / name), "--text", str(text)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        said.append(json.loads(done.stdout.splitlines()[-1]) | {"tokenizer": name})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert said[0] | {"tokenizer": "two"} == said[1]
    assert said[0]["vocab_size"] == read_tokenizer(tmp_path / "one").vocab_size == 1024
    assert said[0]["tokens_per_word"] < 4


def test_the_shipped_one_knows_the_words_of_the_shipped_turns() -> None:
    replies = [reply.text for intent in read_intents() for reply in intent.replies]
    tokens = sum(len(default_tokenizer().encode(text)) for text in replies)
    assert sum(map(len, replies)) / tokens > 2.2, "characters a token"
