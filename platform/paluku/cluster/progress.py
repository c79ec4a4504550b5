"""How far a data job is: a live line on a terminal, a log line every tenth elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from rich import progress as rich_progress
from rich.console import Console

from paluku.log import logger

log = logger("progress")


class Measure(NamedTuple):
    """What an outcome adds to the line."""

    audio_s: float = 0.0
    rejects: int = 0


class Progress:
    """`with Progress("parts", 12, measure) as progress: progress.advance(outcome)`."""

    def __init__(self, label: str, total: int, measure: Callable[[str], Measure] | None = None) -> None:
        self._label, self._total, self._measure = label, total, measure
        self._done = self._known = self._rejects = 0
        self._audio_s = 0.0
        self._began = time.monotonic()
        self._console = Console(stderr=True)  # stdout is for the result
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TextColumn("{task.fields[measured]}"),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("ETA"),
            rich_progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, measured="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, outcome: str, *, was_known: bool = False) -> None:
        """One more plan is done; `was_known` from an earlier run, so it says nothing of the speed."""
        if self._measure is not None:
            measured = self._measure(outcome)
            self._audio_s += measured.audio_s
            self._rejects += measured.rejects
        self._done += 1
        self._known += was_known
        self._bar.update(self._task, completed=self._done, measured=self._measured())
        is_tenth = self._done * 10 // self._total > (self._done - 1) * 10 // self._total
        if not self._console.is_terminal and not was_known and is_tenth:
            log.info(
                "%s=%d/%d %s eta_s=%d", self._label, self._done, self._total, self._measured(), self._eta_s()
            )

    def _measured(self) -> str:
        if self._measure is None:
            return ""
        return f"hours={self._audio_s / 3600:.2f} rejects={self._rejects}"

    def _eta_s(self) -> float:
        made = max(self._done - self._known, 1)
        return (time.monotonic() - self._began) / made * (self._total - self._done)
