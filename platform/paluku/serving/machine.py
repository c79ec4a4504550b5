"""What a serving process has left of its machine. torch is asked only where it is loaded already."""

import contextlib
import functools
import platform
import shutil
import sys
from pathlib import Path

import psutil

from paluku.config import Config
from paluku.streaming.clock import Clock

# Disks and memories fill over minutes; the question costs a seat's step some tens of microseconds.
MEASURED_EVERY_S = 5.0


class Machine(Config):
    """Bytes. The GPU is the one that the process computes on; None where it computes on none."""

    node: str  # the host's name
    memory_resident_bytes: int  # this process's own
    disk_free_bytes: int
    disk_size_bytes: int
    gpu_free_bytes: int | None = None  # whoever uses it: the card's, not this process's
    gpu_size_bytes: int | None = None


def measured(folder: Path) -> Machine:
    """Of this process, now; the disk is the one that `folder` is on, or will be."""
    disk_free, disk_size = _disk(folder)
    gpu_free, gpu_size = _gpu()
    return Machine(
        node=platform.node(),
        memory_resident_bytes=_process().memory_info().rss,
        disk_free_bytes=disk_free,
        disk_size_bytes=disk_size,
        gpu_free_bytes=gpu_free,
        gpu_size_bytes=gpu_size,
    )


class MachineWatch:
    """`measured`, asked at most every few seconds."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._last: tuple[float, Machine] | None = None

    @property
    def latest(self) -> Machine:
        """At most MEASURED_EVERY_S old."""
        now_s = self._clock.now()
        if self._last is None or now_s - self._last[0] >= MEASURED_EVERY_S:
            self._last = now_s, measured(self._folder)
        return self._last[1]


@functools.cache
def _process() -> psutil.Process:
    return psutil.Process()


def _disk(folder: Path) -> tuple[int, int]:
    """Free and all bytes where the folder is, or the first above it that can be asked: no status fails."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(place)
            return disk.free, disk.total
    raise AssertionError(f"{folder} has no root")


def _gpu() -> tuple[int, int] | tuple[None, None]:
    """Free and all bytes of the current CUDA device; asking must not be what begins to use it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None, None
    free, size = torch.cuda.mem_get_info()
    return free, size
