"""What people say to each other: intents with their ways to ask and fitting replies, and whole scripts.

Intents stand in TSV files with a header row, one row for each ask and each reply (`COLUMNS`); lines that
begin with # are comments, and one of them names the licence, as `# licence: CC0-1.0`. Scripts stand in
JSONL files. The Telugu intents that are shipped lie in `shipped_turns()`; `turn_rules` is what a correction
of them has to keep.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple, cast

from pydantic import Field

from paluku.config import Config
from paluku.corpus.text import normalise
from paluku.errors import ConfigError, CorpusError
from paluku.voices import STYLES, StyleName

COLUMNS = ("intent", "topic", "role", "text", "style", "held_out", "provenance", "reviewed")
NO_STYLE = "-"  # of an ask: it is said as the user pleases; any style it names is not read
# In a comment: what follows "licence:", or a Creative Commons identifier (SPDX).
LICENCE = re.compile(r"#.*?(?:\blicence:\s*|(?=\bCC(?:0|-BY)-))([\w.-]*\w)")
INTENT_NAME = re.compile(r"[a-z]+(?:_[a-z]+)*(?:\.[a-z]+(?:_[a-z]+)*)+")
TOPIC_NAME = re.compile(r"[a-z]+(?:_[a-z]+)*")
REVIEWED = re.compile(r"no|yes: \S.*")


class Row(NamedTuple):
    """One row of a file of intents, as it is written; `place` is "file:line"."""

    place: str
    intent: str
    topic: str
    role: str
    text: str
    style: str
    held_out: str
    provenance: str
    reviewed: str


class Sheet(NamedTuple):
    """One file of intents."""

    path: Path
    licence: str
    rows: tuple[Row, ...]


class Reply(NamedTuple):
    """A fitting answer and the style it is said in; the text is normalised."""

    text: str
    style: StyleName


class Intent(NamedTuple):
    """Something a user may want to say; every reply fits every ask. Texts are normalised.

    `held_out_asks` are paraphrases for judging: nothing may be trained on them.
    """

    name: str
    topic: str
    asks: tuple[str, ...]
    held_out_asks: tuple[str, ...]
    replies: tuple[Reply, ...]
    licence: str


class ScriptTurn(Config):
    """One turn of a script; `intent` names what it stands for, where that is known."""

    role: Literal["user", "agent"]
    text: str = Field(min_length=1)
    style: StyleName = "neutral"
    intent: str | None = None


class Script(Config):
    """A conversation in writing: turns in the order in which they are said; or what one user says alone."""

    id: str = Field(min_length=1)
    turns: tuple[ScriptTurn, ...] = Field(min_length=1)
    licence: str = "unknown"


def shipped_turns() -> Path:
    """The folder of Telugu intents that comes with the package."""
    return Path(__file__).parent / "data" / "te_turns"


def read_intents(paths: Iterable[Path] | None = None) -> tuple[Intent, ...]:
    """The intents of the files (of a folder: its *.tsv, by name), in order; without paths the shipped ones.

    Raises:
        CorpusError: when a file is missing, has no rows or no licence, a row does not fit (its line is
            named), or an intent has no ask to train on, no reply, or stands in two files.
    """
    files = sheet_paths([shipped_turns()] if paths is None else paths)
    intents = tuple(chain.from_iterable(_intents(read_sheet(path)) for path in files))
    seen: set[str] = set()
    for intent in intents:
        if intent.name in seen:
            raise CorpusError(f"intent {intent.name} stands in two files; give one of them another name")
        seen.add(intent.name)
    return intents


def sheet_paths(paths: Iterable[Path]) -> list[Path]:
    """The files, and for a folder its *.tsv by name.

    Raises:
        CorpusError: when a folder holds none.
    """
    files = []
    for path in paths:
        found = sorted(path.glob("*.tsv")) if path.is_dir() else [path]
        if not found:
            raise CorpusError(f"{path} holds no *.tsv; give a folder or files of intents")
        files.extend(found)
    return files


def read_sheet(path: Path) -> Sheet:
    """A file of intents, each row with its place; only the number of its fields is checked.

    Raises:
        CorpusError: when the file is missing, has no rows or no licence, or a row lacks a field.
    """
    lines = _read_lines(path)
    licence = next((m[1] for line in lines if (m := LICENCE.match(line))), None)
    if licence is None:
        raise CorpusError(f"{path} names no licence; add a line such as `# licence: CC0-1.0`")
    numbered = [(n, line.split("\t")) for n, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not numbered or tuple(numbered[0][1]) != COLUMNS:
        raise CorpusError(f"{path} must begin with the header {', '.join(COLUMNS)}, separated by tabs")
    if len(numbered) == 1:
        raise CorpusError(f"{path} holds no rows below its header; add some")
    return Sheet(path, licence, tuple(_row(f"{path}:{number}", fields) for number, fields in numbered[1:]))


def _read_lines(path: Path) -> list[str]:
    try:
        # Some editors begin a file with a byte order mark, which is no part of its first line.
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); give a UTF-8 text file of turns") from error


def _row(place: str, fields: list[str]) -> Row:
    if len(fields) != len(COLUMNS) or not all(field.strip() for field in fields):
        raise CorpusError(f"{place} has not the {len(COLUMNS)} fields {', '.join(COLUMNS)}; mend the line")
    return Row(place, *fields)


def row_faults(row: Row) -> Iterator[str]:
    """What keeps a row from being read at all: its names, role, style or marks."""
    if not INTENT_NAME.fullmatch(row.intent):
        yield f"{row.place} {row.intent!r} is no intent name; write it like greet.hello"
    if not TOPIC_NAME.fullmatch(row.topic):
        yield f"{row.place} {row.topic!r} is no topic; use small Latin letters and underscores"
    if row.role not in ("ask", "reply"):
        yield f"{row.place} {row.role!r} is no role; write ask or reply"
    if row.style not in STYLES and (row.role, row.style) != ("ask", NO_STYLE):
        yield f"{row.place} {row.style!r} is no style; write one of {', '.join(STYLES)}"
    if row.held_out not in (("yes", "no") if row.role == "ask" else ("no",)):
        yield f"{row.place} held_out is yes or no, and no for a reply, not {row.held_out!r}"
    if not REVIEWED.fullmatch(row.reviewed):
        yield f"{row.place} reviewed is no, or yes: and the reviewer's name, not {row.reviewed!r}"


def by_intent(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each intent, in the order of first mention."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.intent, []).append(row)
    return groups


def _intents(sheet: Sheet) -> list[Intent]:
    for fault in chain.from_iterable(map(row_faults, sheet.rows)):
        raise CorpusError(fault)
    return [_intent(rows, sheet.licence) for rows in by_intent(sheet.rows).values()]


def _intent(rows: Sequence[Row], licence: str) -> Intent:
    first = rows[0]
    for row in rows:
        if row.topic != first.topic:
            raise CorpusError(f"{row.place} has topic {row.topic}, its intent {first.topic}; make them one")
    asks = [(normalise(row.text), row.held_out == "yes") for row in rows if row.role == "ask"]
    training = tuple(text for text, is_held_out in asks if not is_held_out)
    replies = tuple(
        Reply(normalise(row.text), cast(StyleName, row.style)) for row in rows if row.role == "reply"
    )
    if not training or not replies:
        raise CorpusError(
            f"{first.place} {first.intent} needs an ask that is not held out, and a reply; add them"
        )
    held_out = tuple(text for text, is_held_out in asks if is_held_out)
    return Intent(first.intent, first.topic, training, held_out, replies, licence)


def read_scripts(path: Path) -> tuple[Script, ...]:
    """All scripts of a JSONL file: one `{"id", "licence", "turns": [{"role", "text", ...}]}` a line.

    A role is "user" or "agent"; texts are normalised; empty lines are skipped.

    Raises:
        CorpusError: when the file is missing or empty, a line does not fit (it is named), or an id repeats.
    """
    numbered = [(n, line) for n, line in enumerate(_read_lines(path), 1) if line.strip()]
    if not numbered:
        raise CorpusError(f"{path} holds no scripts; write one JSON object a line")
    scripts: dict[str, Script] = {}
    for number, line in numbered:
        script = _script(f"{path}:{number}", line)
        if script.id in scripts:
            raise CorpusError(f"{path}:{number} repeats the id {script.id!r}; each script needs its own")
        scripts[script.id] = script
    return tuple(scripts.values())


def _script(place: str, line: str) -> Script:
    try:
        script = Script.from_json(line, place)
    except ConfigError as error:
        raise CorpusError(str(error)) from error
    turns = tuple(turn.model_copy(update={"text": normalise(turn.text)}) for turn in script.turns)
    return script.model_copy(update={"turns": turns})
