"""What a training loop needs from outside: somewhere to report to. The loops know nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """Where a loop reports. Every rank calls every method; an implementation decides who speaks."""

    @property
    def run_id(self) -> str:
        """The tracking run, saved in checkpoints so that a resumed run continues the same curves."""
        ...

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Step-keyed metrics."""
        ...

    def artifact(self, path: Path, folder: str) -> None:
        """Keep a file (a sample, a picture) below `folder` of the run."""
        ...

    def checkpoint(self, folder: Path | None, step: int) -> None:
        """A whole checkpoint lies in `folder` (rank 0; `None` elsewhere); keep a copy.

        All ranks call this at the same step: it may be a barrier.
        """
        ...


class SilentReporter:
    """Reports nowhere: for tests, and for ranks that do not speak."""

    run_id = "none"

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Dropped."""

    def artifact(self, path: Path, folder: str) -> None:
        """Dropped."""

    def checkpoint(self, folder: Path | None, step: int) -> None:
        """Dropped."""
