"""Scripts of one speaker: all asks that are trained on, and what all voices can read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paluku.corpus.monologues import is_readable, monologues
from paluku.corpus.turns import Intent, Reply, read_intents, read_scripts

INTENTS = tuple(
    Intent(
        f"topic.{name}",
        "topic",
        tuple(f"{word} {name * n}" for n in range(1, 6)),
        (f"{word} వేరే",),
        (Reply("సరే", "happy"),),
        "CC0-1.0",
    )
    for name, word in (("a", "కల"), ("b", "మల"))
)
LINES = ["ఇది ఒక కథ.", "మల వేరే!", "It is English", "అది 12", "ఇది ఒక కథ", " ".join(["కల"] * 13)]


def test_every_ask_is_said_once_and_nothing_that_is_held_out() -> None:
    scripts = list(monologues(INTENTS, LINES, 4, "CC-BY-4.0", seed=0))
    said = [turn for script in scripts for turn in script.turns]
    asks = {ask: intent.name for intent in INTENTS for ask in intent.asks}
    assert sorted(turn.text for turn in said) == sorted([*asks, "ఇది ఒక కథ."])
    assert all(turn.intent == asks.get(turn.text) and turn.role == "user" for turn in said)
    assert [len(script.turns) for script in scripts] == [4, 4, 3]
    assert {script.licence for script in scripts} == {"CC-BY-4.0 AND CC0-1.0"}
    assert len({script.id for script in scripts}) == 3
    assert {script.licence for script in monologues(INTENTS, LINES[1:4], 4, "x", 0)} == {"CC0-1.0"}


def test_the_order_is_the_seed_s() -> None:
    first, again, other = (list(monologues(INTENTS, LINES, 4, "x", seed)) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("line", "is_one"),
    [("ఇది కథ!", True), ("దుఃఖం", True), ("ok కథ", False), ("12 కథలు", False), ("...", False), ("कथा", False)],
)
def test_what_some_voice_cannot_read_is_left_out(line: str, is_one: bool) -> None:
    assert is_readable(line) == is_one


def test_the_job_writes_what_dialogues_are_built_from(tmp_path: Path) -> None:
    text, out = tmp_path / "lines.txt", tmp_path / "alone.jsonl"
    text.write_text("ఇది ఒక కథ.\n", encoding="utf-8")
    done = run_job(str(out), "--text", str(text))
    scripts = read_scripts(out)
    asks = {ask for intent in read_intents() for ask in intent.asks}
    assert {turn.text for script in scripts for turn in script.turns} <= asks | {"ఇది ఒక కథ."}
    assert json.loads(done.stdout)["sentences"] > 0.98 * len(asks)
    assert "0' is no number of sentences; give 1 or more" in run_job(str(out), "--length", "0").stderr


def run_job(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "jobs.write_monologues", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
