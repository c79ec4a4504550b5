"""Structured log lines: a name, a message, and key=value pairs. Never audio, transcripts or keys."""

import logging
import sys


def logger(name: str) -> logging.Logger:
    """A logger below the root `paluku` logger."""
    return logging.getLogger(name if name.startswith("paluku") else f"paluku.{name}")


def to_stderr(level: int = logging.INFO) -> None:
    """Send Paluku's log lines to stderr. For entry points; a library never calls it."""
    root = logging.getLogger("paluku")
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s", "%H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False  # Ray gives its workers a root handler: every line would come twice
