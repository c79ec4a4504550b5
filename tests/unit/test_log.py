"""Log lines as JSON: one object a line, the session of whoever wrote it, and no words of an error."""

import asyncio
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from paluku import log
from paluku.log import JsonLines, TextLines, in_session, logger, serves_as


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No handler, and a process that is nobody; afterwards as before."""
    monkeypatch.setattr(log, "_process", {})
    root = logging.getLogger("paluku")
    before = root.handlers[:], root.level, root.propagate
    root.handlers = []
    yield
    root.handlers, root.level, root.propagate = before[0], before[1], before[2]


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    serves_as({"PALUKU_LOG": "json"}, ingress="1f2e")
    logger("serving.keys").warning("%d keys\nread from %s", 3, "పలుకు")
    (line,) = lines(capsys)
    assert line.pop("time").endswith("+00:00")  # type: ignore[union-attr]
    assert line == {
        "level": "warning",
        "logger": "paluku.serving.keys",
        "event": "3 keys\nread from పలుకు",
        "ingress": "1f2e",
    }


def test_a_line_names_the_session_it_was_written_in(capsys: pytest.CaptureFixture[str]) -> None:
    serves_as({"PALUKU_LOG": "json"})
    told = logger("x")

    async def talk(name: str) -> None:
        with in_session(name):
            await asyncio.sleep(0)
            told.info("%s", name)
            await asyncio.create_task(nested(name))
        told.info("after")

    async def nested(name: str) -> None:
        told.info("%s", name)

    async def both() -> None:
        await asyncio.gather(talk("a"), talk("b"))

    asyncio.run(both())
    told.info("moved", extra={"session": "c"})
    found = [(line["event"], line.get("session")) for line in lines(capsys)]
    assert sorted(found, key=str) == sorted(
        [("a", "a"), ("a", "a"), ("b", "b"), ("b", "b"), ("after", None), ("after", None), ("moved", "c")],
        key=str,
    )


def test_a_session_within_another_gives_the_outer_one_back() -> None:
    record = logging.LogRecord("paluku", logging.INFO, "", 0, "x", None, None)
    with in_session("outer"):
        with in_session("inner"):
            assert json.loads(JsonLines().format(record))["session"] == "inner"
        assert json.loads(JsonLines().format(record))["session"] == "outer"
    assert "session" not in json.loads(JsonLines().format(record))


def failed(error: Exception) -> str:
    """What the JSON line of an exception says of it."""
    try:
        raise error
    except type(error):
        record = logging.LogRecord("paluku", logging.ERROR, "", 0, "it failed", None, sys.exc_info())
    return json.loads(JsonLines().format(record))["error"]


def test_an_exception_is_told_by_type_and_place_and_not_by_its_words() -> None:
    told = failed(ValueError("the client said: my password is గుప్తం"))
    assert re.fullmatch(r"ValueError at test_log\.py:\d+ failed", told)


def test_an_assertion_is_worded_here_and_told() -> None:
    told = failed(AssertionError("frame 3 landed out of order"))
    assert told.startswith("AssertionError: frame 3 landed out of order at test_log.py:")


def test_people_get_the_session_at_the_end_of_the_line() -> None:
    record = logging.LogRecord("paluku.x", logging.INFO, "", 0, "begins", None, None)
    with in_session("ab12"):
        assert TextLines().format(record).endswith("paluku.x begins session=ab12")
    assert TextLines().format(record).endswith("paluku.x begins")


@pytest.mark.parametrize("environ", [{}, {"PALUKU_LOG": ""}])
def test_without_being_asked_a_serving_process_leaves_its_lines_to_others(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    serves_as(environ, ingress="x")
    logger("x").warning("told to whoever listens")
    assert logging.getLogger("paluku").handlers == []
    assert '"event"' not in capsys.readouterr().err


def test_asked_for_text_a_serving_process_writes_text(capsys: pytest.CaptureFixture[str]) -> None:
    serves_as({"PALUKU_LOG": "text"}, stage="encode")
    logger("x").info("begins")
    assert capsys.readouterr().err.endswith("paluku.x begins\n")
