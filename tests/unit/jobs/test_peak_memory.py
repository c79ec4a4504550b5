import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import psutil

from jobs.peak_memory import PeakMemory, held, held_bytes

SIZE = 60_000_000
kept: list[bytes] = []


def hold() -> int:
    kept.append(b"\1" * SIZE)
    return os.getpid()


def test_a_drivers_memory_is_counted_while_it_is_held() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        child = psutil.Process(process.submit(hold).result())
        assert held(child) > SIZE
        assert held_bytes() > SIZE


def test_the_peak_is_the_greatest_of_all_looks() -> None:
    sizes = iter([3, 7, 5])
    peak = PeakMemory(look=lambda: next(sizes))
    for _ in range(3):
        peak.look()
    assert peak.num_bytes == 7


def test_other_children_are_not_counted() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert held(psutil.Process(child.pid)) == 0
        child.communicate(b"\n")
