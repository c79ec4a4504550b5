"""Tasks for the tests of `run_resumably`: they count themselves, and die or fail where a test says."""

import os
import secrets
import signal
from pathlib import Path

from paluku.corpus.preparation.quality import UnusableError
from paluku.errors import StorageError


def count(plan: str, folder: str) -> str:
    """`plan` reversed; every call leaves a file, and the first for a plan ending in "die" is a `kill -9`."""
    calls = Path(folder)
    is_first = not list(calls.glob(f"{plan}.*"))
    (calls / f"{plan}.{secrets.token_hex(4)}").touch()
    if plan.endswith("die") and is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    return plan[::-1]


def refuse(plan: str) -> str:
    """Fail in one of our own classes, or in one with more than a message."""
    if plan == "full":
        raise StorageError("/mnt is full")
    raise UnusableError("noisy", "3 dB")
