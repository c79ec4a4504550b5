"""The most memory that this process's children ever held together: `with PeakMemory() as peak: ...`."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psutil

INTERVAL_S = 0.25
# Ray names its workers so (`ray::IDLE`, `ray::Map(...)`); a driver is a child spawned by multiprocessing.
NAMES = ("ray::", "spawn_main")


class PeakMemory:
    """Samples the driver's and the workers' proportional set size: what they share counts once.

    Ray's own services (raylet, GCS, dashboard) are left out: a cluster has them with or without a job.
    """

    def __init__(self, look: Callable[[], int] | None = None) -> None:
        self.num_bytes = 0
        self._look = look or held_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self.look()

    def look(self) -> None:
        """One sample."""
        self.num_bytes = max(self.num_bytes, self._look())


def held_bytes() -> int:
    """Of the drivers and workers among this process's descendants, now."""
    return sum(held(process) for process in psutil.Process().children(recursive=True))


def held(process: psutil.Process) -> int:
    """Of a driver or worker; 0 of any other process, and of one that has ended."""
    try:
        if not any(name in " ".join(process.cmdline()) for name in NAMES):
            return 0
        memory = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
        return 0
    return int(getattr(memory, "pss", memory.rss))  # only Linux knows shares
