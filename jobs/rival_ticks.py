"""Ticks of several engines by turns: whatever else the machine does meanwhile is as much for each."""

import time
from collections.abc import Mapping

import numpy as np

from jobs.engine_rivals import ours
from paluku.evals.s2s_drive import Parts
from paluku.evals.speed import one_thread
from paluku.units import MS_PER_S

WARM_UP = 5


def ticks_ms(engines: Mapping[str, Parts], seats: int, ticks: int) -> dict[str, np.ndarray]:
    """What each tick of a full table took, `[ticks]`.

    On a CPU its own time on one thread, which others on the machine hardly change; on a GPU the clock's.
    """
    devices = {next(parts.model.parameters()).device.type for parts in engines.values()}
    clock = time.perf_counter if devices == {"cuda"} else time.process_time
    spent: dict[str, list[float]] = {who: [] for who in engines}
    with one_thread():
        steps = {who: ours(parts.model, seats, parts.codec, compiled=False) for who, parts in engines.items()}
        for number in range(WARM_UP + ticks):
            for who, step in steps.items():
                began_s = clock()
                step()
                if number >= WARM_UP:
                    spent[who].append((clock() - began_s) * MS_PER_S)
    return {who: np.array(taken) for who, taken in spent.items()}
