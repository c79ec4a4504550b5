"""Debian programs that speak: run once for each sentence, in a folder of their own."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from paluku.errors import AudioError, ServiceError

# A sentence takes under a second; a program that takes longer hangs.
_TIMEOUT_S = 60


def find(program: str, package: str) -> str:
    """The program's path.

    Raises:
        ServiceError: when it is not installed; says how to.
    """
    path = shutil.which(program)
    if path is None:
        raise ServiceError(
            f"{program} is not installed; run: apt-get install -y --no-install-recommends {package}"
        )
    return path


def run(command: Sequence[str], folder: Path, makes: Path) -> None:
    """Run a program that writes the file `makes`.

    Raises:
        AudioError: when it hangs, or the file does not appear or is empty; its last line says why.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"{command[0]} did not end in {_TIMEOUT_S} s; check the text") from error
    if done.returncode != 0 or not makes.is_file() or not makes.stat().st_size:
        lines = (done.stderr + done.stdout).decode(errors="replace").split("\n")
        why = next((line for line in lines if line.strip()), "it says nothing")
        raise AudioError(f"{command[0]} failed with exit code {done.returncode}: {why.strip()[:200]}")
