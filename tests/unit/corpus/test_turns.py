import json
from pathlib import Path

import pytest

from paluku.corpus.turns import COLUMNS, Reply, read_intents, read_scripts, shipped_turns
from paluku.errors import CorpusError

SHEET = "# licence: CC0-1.0\n" + "\t".join(COLUMNS) + "\n"


def written(tmp_path: Path, text: str, name: str = "turns.tsv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def row(text: str, role: str = "ask", **fields: str) -> str:
    defaults = {"intent": "greet.hello", "topic": "greetings", "role": role, "text": text}
    defaults |= {"style": "-" if role == "ask" else "happy", "held_out": "no"}
    defaults |= {"provenance": "machine-written", "reviewed": "no"}
    return "\t".join((defaults | fields)[column] for column in COLUMNS) + "\n"


ASK, REPLY = row("ఎలా ఉన్నారు?"), row("బాగున్నాను.", "reply")


def test_an_intent_has_what_its_rows_say_in_their_order(tmp_path: Path) -> None:
    held_out = row("కులాసానా?", held_out="yes")
    other = row("పేరేంటి?", intent="name.ask", topic="name") + row(
        "పలుకు.", "reply", intent="name.ask", topic="name"
    )
    text = SHEET + row(" ఎలా  ఉన్నారు? ") + "\n# a note\n" + other + held_out + REPLY
    greet, name = read_intents([written(tmp_path, text)])
    assert greet.asks == ("ఎలా ఉన్నారు?",)
    assert greet.held_out_asks == ("కులాసానా?",)
    assert greet.replies == (Reply("బాగున్నాను.", "happy"),)
    assert (greet.topic, greet.licence, name.name) == ("greetings", "CC0-1.0", "name.ask")


@pytest.mark.parametrize(
    ("comment", "licence"),
    [
        ("# licence: LicenseRef-own", "LicenseRef-own"),
        ("#licence:MIT", "MIT"),
        ("# Turns of ours. CC0-1.0. Written by hand.", "CC0-1.0"),
        ("# Turns of theirs (CC-BY-4.0)", "CC-BY-4.0"),
    ],
)
def test_a_comment_names_the_licence(tmp_path: Path, comment: str, licence: str) -> None:
    text = f"# about turns\n{comment}\n" + SHEET.partition("\n")[2] + ASK + REPLY
    (intent,) = read_intents([written(tmp_path, text)])
    assert intent.licence == licence


def test_a_folder_is_read_file_by_file_in_the_order_of_names(tmp_path: Path) -> None:
    for name, intent in (("b.tsv", "z.first"), ("a.tsv", "z.second")):
        rows = row("ఏమిటి?", intent=intent) + row("ఇది.", "reply", intent=intent)
        written(tmp_path, SHEET + rows, name)
    assert [intent.name for intent in read_intents([tmp_path])] == ["z.second", "z.first"]
    assert [intent.name for intent in read_intents([tmp_path / "b.tsv"])] == ["z.first"]


def test_without_paths_the_shipped_intents_are_read() -> None:
    assert read_intents() == read_intents([shipped_turns()])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\t".join(COLUMNS) + "\n" + ASK + REPLY, "names no licence"),
        ("# licence: CC0-1.0\n" + ASK + REPLY, "must begin with the header"),
        (SHEET, "no rows below its header"),
        (SHEET + ASK + "a\tb\n", r"turns\.tsv:4 has not the 8 fields"),
        (SHEET + ASK + row(" ", "reply"), r"turns\.tsv:4 has not the 8 fields"),
        (SHEET + ASK, r"turns\.tsv:3 greet\.hello needs an ask .* and a reply"),
        (SHEET + row("ఎలా ఉన్నారు?", held_out="yes") + REPLY, r"turns\.tsv:3 greet\.hello needs an ask"),
        (SHEET + ASK + row("అవును.", "reply", topic="food"), r"turns\.tsv:4 has topic food"),
        (SHEET + ASK + row("అవును.", "reply", style="-"), r"turns\.tsv:4 '-' is no style"),
        (SHEET + ASK + row("అవును.", "reply", held_out="yes"), r"turns\.tsv:4 held_out"),
        (SHEET + row("ఏమిటి?", "question") + REPLY, r"turns\.tsv:3 'question' is no role"),
        (SHEET + row("ఏమిటి?", intent="Hello") + REPLY, r"turns\.tsv:3 'Hello' is no intent name"),
        (SHEET + row("ఏమిటి?", topic="small talk") + REPLY, r"turns\.tsv:3 'small talk' is no topic"),
        (SHEET + row("ఏమిటి?", reviewed="yes") + REPLY, r"turns\.tsv:3 reviewed is no, or yes: and"),
    ],
)
def test_a_row_of_intents_that_does_not_fit_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CorpusError, match=complaint):
        read_intents([written(tmp_path, text)])


def test_an_intent_stands_in_one_file_and_a_folder_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no \*\.tsv"):
        read_intents([tmp_path])
    paths = [written(tmp_path, SHEET + ASK + REPLY, name) for name in ("a.tsv", "b.tsv")]
    with pytest.raises(CorpusError, match=r"greet\.hello stands in two files"):
        read_intents(paths)


def script(**fields: object) -> str:
    turns = [
        {"role": "user", "text": " ఎలా  ఉన్నారు?", "intent": "greet.how_are_you"},
        {"role": "agent", "text": "బాగున్నాను.", "style": "happy"},
    ]
    return json.dumps({"id": "one", "licence": "CC0-1.0", "turns": turns} | fields, ensure_ascii=False)


def test_a_script_keeps_its_turns_and_what_is_not_said_is_neutral(tmp_path: Path) -> None:
    path = written(tmp_path, f"{script()}\n\n{script(id='two')}\n", "scripts.jsonl")
    first, second = read_scripts(path)
    assert (first.id, second.id, first.licence) == ("one", "two", "CC0-1.0")
    user, agent = first.turns
    assert (user.role, user.text, user.style, user.intent) == (
        "user",
        "ఎలా ఉన్నారు?",
        "neutral",
        "greet.how_are_you",
    )
    assert (agent.role, agent.style, agent.intent) == ("agent", "happy", None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n", "holds no scripts"),
        (f"{script()}\n{script()}", r"scripts\.jsonl:2 repeats the id 'one'"),
        (f"{script()}\n{{", r"scripts\.jsonl:2 is not JSON"),
        (script(turns=[]), r"scripts\.jsonl:1: turns"),
        (script(turns=[{"role": "robot", "text": "ఆ"}]), r"scripts\.jsonl:1: turns\.0\.role"),
    ],
)
def test_a_script_that_does_not_fit_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CorpusError, match=complaint):
        read_scripts(written(tmp_path, text, "scripts.jsonl"))


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    sheet = written(tmp_path, "\ufeff" + SHEET + ASK + REPLY)
    assert [intent.name for intent in read_intents([sheet])] == ["greet.hello"]
    assert [s.id for s in read_scripts(written(tmp_path, "\ufeff" + script(), "scripts.jsonl"))] == ["one"]


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "audio.tsv").write_bytes(b"\xff\xfe\x00")
    for name in ("none.tsv", "audio.tsv"):
        with pytest.raises(CorpusError, match=rf"{name} cannot be read"):
            read_intents([tmp_path / name])
        with pytest.raises(CorpusError, match=rf"{name} cannot be read"):
            read_scripts(tmp_path / name)
