"""Log lines for people, or with PALUKU_LOG=json one JSON object a line. Never audio, transcripts or keys."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

FORMAT_VARIABLE = "PALUKU_LOG"
JSON, TEXT = "json", "text"

_session: ContextVar[str] = ContextVar("paluku_session", default="")
_process: dict[str, str] = {}


def logger(name: str) -> logging.Logger:
    """A logger below the root `paluku` logger."""
    return logging.getLogger(name if name.startswith("paluku") else f"paluku.{name}")


@contextmanager
def in_session(session_id: str) -> Iterator[None]:
    """Lines written in the block, and in the tasks it starts, name this session."""
    before = _session.get()
    _session.set(session_id)
    try:
        yield
    finally:
        # Not by a token: a generator that is closed late is closed in another context, where one is void.
        _session.set(before)


def to_stderr(level: int = logging.INFO, environ: Mapping[str, str] = os.environ) -> None:
    """Send Paluku's log lines to stderr. For entry points; a library never calls it."""
    root = logging.getLogger("paluku")
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if environ.get(FORMAT_VARIABLE) == JSON else TextLines())
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False  # Ray gives its workers a root handler: every line would come twice


def serves_as(environ: Mapping[str, str] = os.environ, /, **facts: str) -> None:
    """What a serving process is (`ingress=NAME`, `stage=NAME`): every JSON line of it says so.

    Where PALUKU_LOG is set, `json` or `text`, its lines from INFO on go to stderr; else they stay with
    whoever runs the process. Under Ray that is Ray, which shows warnings.
    """
    _process.update(facts)
    if environ.get(FORMAT_VARIABLE):
        to_stderr(environ=environ)


class TextLines(logging.Formatter):
    """Time, logger, message, and the session where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(name)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class's name)
        """The line without its traceback."""
        session = _session_of(record)
        return super().formatMessage(record) + (f" session={session}" if session else "")


class JsonLines(logging.Formatter):
    """`time`, `level`, `logger`, `event`, what the process is, `session` where there is one, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, without a line break."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_process,
        }
        if session := _session_of(record):
            line["session"] = session
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = fault(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def fault(error: BaseException) -> str:
    """An exception's type and the places it came through, in one line: how a serving process logs it.

    Its words are told only when it is an assertion, which is worded in this code: others may quote what a
    client sent.
    """
    words = f": {error}" if isinstance(error, AssertionError) and str(error) else ""
    frames = traceback.extract_tb(error.__traceback__)
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__}{words} at {places or 'no place'}"


def _session_of(record: logging.LogRecord) -> str:
    """Named by the line itself (`extra={"session": ...}`), or by where it was written."""
    return getattr(record, "session", "") or _session.get()
