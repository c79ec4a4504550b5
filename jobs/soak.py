"""An hour of sessions that come and go: `python -m jobs.soak --minutes 60`, or `--quick` for 20 minutes.

Watches each process's memory and file descriptors, the seats and the ingress's tasks: all flat, or it
says what grew. Starts and stops what it needs. The last line is JSON.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jobs.chaos import SETTLE_TIMEOUT_S, seats_left
from jobs.stand import Stand
from paluku.client.load import crowd
from paluku.cluster.faults import Usage
from paluku.errors import exits_cleanly
from paluku.registry.results import log_serving

QUICK_MINUTES = 20.0
SAMPLE_S = 10.0
# Of the run: allocators, caches and the first sessions fill up.
SETTLING_SHARE = 0.25
TOLERANCE = 0.05
# Below this a share says nothing: one connection more is 5 % of twenty.
MIN_GROWTH = {"rss_mb": 8.0, "fds": 6.0, "tasks": 6.0}
STAY_S = (5.0, 40.0)
FRAME_S = 0.04
console = Console(stderr=True)

Series = dict[str, list[float]]  # by process and measure, in time


class Growth(NamedTuple):
    """One measure that did not stay flat."""

    what: str
    first: float
    last: float


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.soak", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60.0)
    length.add_argument("--quick", type=float, nargs="?", const=QUICK_MINUTES, metavar="MINUTES",
                        help="the short form: 20 minutes")  # fmt: skip
    parser.add_argument("--topology", choices=("fused", "graph"), default="graph")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument(
        "--stand-in", action="store_true", help="stages of no cost instead of the demo's model"
    )
    parser.add_argument("--tracking-uri", help="an MLflow server to log to")
    return parser.parse_args(argv)


def sample(series: Series, usage: Mapping[str, Mapping[int, Usage]], tasks: float) -> None:
    """Append one instant."""
    for name, processes in usage.items():
        for pid, held in processes.items():
            series.setdefault(f"{name} {pid} rss_mb", []).append(held.rss_mb)
            series.setdefault(f"{name} {pid} fds", []).append(held.fds)
    series.setdefault("Ingress tasks", []).append(tasks)


def grown(series: Series) -> list[Growth]:
    """What is more at the end than it was once settled: the medians of the run's second and last quarter."""
    found = []
    for what, values in series.items():
        quarter = int(len(values) * SETTLING_SHARE)
        if quarter < 1:
            continue
        first = float(np.median(values[quarter : 2 * quarter]))
        last = float(np.median(values[-quarter:]))
        if last - first > max(TOLERANCE * first, MIN_GROWTH[what.split()[-1]]):
            found.append(Growth(what, round(first, 1), round(last, 1)))
    return found


@exits_cleanly
def main() -> None:
    """Start, talk, watch, stop."""
    asked = arguments()
    seconds = 60.0 * (asked.quick or asked.minutes)
    # Half a seat more each: the next session comes while the one before still says goodbye.
    with Stand(asked.topology, asked.sessions + asked.sessions // 2, stand_in=asked.stand_in) as stand:
        last = asyncio.run(soak(stand, asked.sessions, seconds))
    if asked.tracking_uri:
        log_serving(asked.tracking_uri, "soak", vars(asked), [last])
    print(json.dumps({"minutes": round(seconds / 60, 1), **last}))


async def soak(stand: Stand, sessions: int, seconds: float) -> dict[str, Any]:
    """Let them come and go, and look."""
    await asyncio.to_thread(stand.replicas.wait_settled, SETTLE_TIMEOUT_S)
    series: Series = {}
    async with crowd(stand.websocket_url, stand.load(), stand.sound()) as people:
        await people.gather(sessions)
        people.tally.is_measuring = True
        watching = asyncio.create_task(watch(stand, series))
        await people.come_and_go(seconds, STAY_S)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        load = people.tally.report(FRAME_S)
        await people.finish()
        growth = grown(series)
        for what in growth:
            console.print(f"[red]grew: {what.what} from {what.first} to {what.last}")
        counts = people.tally.counts
        wrong = (
            "sessions_lost",
            "lost_frames",
            "foreign_frames",
            "misplaced_frames",
            "violations",
            "refused",
        )
        return {
            "sessions": counts["sessions_seated"],
            "frames": counts["replies"],
            "late_share": load.late_share,
            "reaction_ms": load.reaction.model_dump() if load.reaction else None,
            **{name: counts[name] for name in wrong},
            "leaks": len(growth) + len(await seats_left(stand)),
            "grown": [what._asdict() for what in growth],
        }


async def watch(stand: Stand, series: Series) -> None:
    """Sample until cancelled."""
    next_s = time.monotonic()
    while True:
        usage = await asyncio.to_thread(stand.replicas.usage)
        stats = await asyncio.to_thread(stand.stats)
        sample(series, usage, stats.get("tasks", 0))
        next_s += SAMPLE_S
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))


if __name__ == "__main__":
    main()
