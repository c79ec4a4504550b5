"""How many sessions the service holds, and how late it answers: `python -m jobs.bench_serve --sessions 8`.

Starts a cluster of its own, deploys, speaks over real sockets in real time, and stops everything. The
last line is JSON; with --sweep one line per number of sessions, and the last says how many are held.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from jobs.stand import Stand
from paluku.client.load import Crowd, crowd
from paluku.client.tally import LoadReport
from paluku.errors import ServiceError, exits_cleanly
from paluku.registry.results import log_serving

# After seating: what the first steps allocate and the alignment's first corrections are no steady state.
WARM_UP_S = 3.0
SWEEP = (1, 4, 8, 12, 16, 20, 24, 28, 32)
MIN_SWEPT = 12  # numbers of sessions up to this are measured whether or not fewer were held
BUDGET_MS, MAX_LATE_SHARE = 40.0, 0.001
FRAME_S = 0.04
COLUMNS = (
    *("sessions", "reaction", "send → reply mean / p99", "tick p50 / p99", "late"),
    *("lost", "refused", "own late p99", "wrong frames"),
)
console = Console(stderr=True, width=140)


class Cell(NamedTuple):
    """One measured number of sessions."""

    topology: str
    sessions: int  # that were seated
    load: LoadReport
    lost_frames: int
    stats: dict[str, Any]  # the ingress's, at the end of the measured stretch

    @property
    def line(self) -> dict[str, Any]:
        """The JSON line."""
        reaction = self.load.reaction
        return {
            "topology": self.topology,
            "sessions": self.sessions,
            "reaction_ms": {
                name: getattr(reaction, f"{name}_ms") if reaction else None for name in ("mean", "std", "p99")
            },
            "tick_ms": {name: _rounded(self.stats.get(f"tick_{name}_ms")) for name in ("p50", "p99")},
            "late_share": self.load.late_share,
            "lost_frames": self.lost_frames,
            "refused": self.load.counts.get("refused", 0),
        }

    @property
    def is_held(self) -> bool:
        """Whether the service carries so many."""
        tick_ms = self.stats.get("tick_p99_ms")
        is_fast = tick_ms is not None and tick_ms < BUDGET_MS
        return is_fast and self.load.late_share < MAX_LATE_SHARE and self.lost_frames == 0


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.bench_serve", description=__doc__)
    parser.add_argument("--topology", choices=("fused", "graph"), default="graph")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--sessions", type=int, default=8)
    size.add_argument("--sweep", action="store_true", help="1, 4, 8, 12 and more, up to what is held")
    parser.add_argument(
        "--stand-in", action="store_true", help="stages of no cost: what the graph itself carries"
    )
    parser.add_argument("--unaligned", action="store_true", help="20 ms messages at any phase to the tick")
    parser.add_argument("--overload", action="store_true", help="then three times the seats ask")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured; the tick's p99 covers 60")
    parser.add_argument("--seats", type=int, help="of each stage; as many as sessions by default")
    parser.add_argument("--bundle", type=Path, help="a bundle's folder; the demo's by default")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--tracking-uri", help="an MLflow server to log to")
    found = parser.parse_args(argv)
    if found.overload and found.sweep:
        parser.error("--overload measures one number of sessions; leave --sweep out")
    return found


@exits_cleanly
def main() -> None:
    """Measure one number of sessions, or several."""
    asked = arguments()
    cells: list[Cell] = []
    for sessions in SWEEP if asked.sweep else (asked.sessions,):
        cells += run(asked, sessions)
        if asked.sweep:
            print(json.dumps(cells[-1].line), flush=True)
            if sessions >= MIN_SWEPT and not cells[-1].is_held:
                break
    show(cells)
    last = {"sessions_held": held(cells)} if asked.sweep else {}
    if asked.overload:
        last = {"overload": overload_line(*cells)}
    if asked.json:
        numbers = [{**cell.line, "load": cell.load.model_dump(), "stats": cell.stats} for cell in cells]
        asked.json.write_text(json.dumps({"cells": numbers, **last}, indent=1), encoding="utf-8")
    if asked.tracking_uri:
        lines = [cell.line for cell in cells]
        lines[-1] |= last
        log_serving(asked.tracking_uri, "bench_serve", vars(asked), lines, step_key="sessions")
    print(json.dumps({**cells[-1].line, **last}))


def run(asked: argparse.Namespace, sessions: int) -> list[Cell]:
    """A stand of its own for each number of sessions: nothing of the one before is left in its windows."""
    seats = asked.seats or sessions
    with Stand(asked.topology, seats, stand_in=asked.stand_in, bundle=asked.bundle) as stand:
        console.print(f"{asked.topology}: {sessions} sessions on {seats} seats, {asked.seconds:g} s")
        return asyncio.run(measure(stand, sessions, asked))


async def measure(stand: Stand, sessions: int, asked: argparse.Namespace) -> list[Cell]:
    """Seat, warm up, measure; with --overload a second time while twice as many more are refused."""
    config = stand.load(aligned=not asked.unaligned, chunk_ms=20 if asked.unaligned else 40)
    async with crowd(stand.websocket_url, config, stand.sound()) as people:
        if await people.gather(sessions) < sessions and not asked.seats:
            raise ServiceError(f"not all of {sessions} sessions were seated: {dict(people.tally.endings)}")
        await asyncio.sleep(WARM_UP_S)
        cells = [await stretch(stand, people, asked.seconds)]
        if asked.overload:
            refusing = asyncio.create_task(people.gather(2 * people.alive))
            cells.append(await stretch(stand, people, asked.seconds))
            await refusing
        people.tally.is_measuring = False
        await people.finish()
        lost = people.tally.counts["lost_frames"]
        return [cell._replace(lost_frames=lost) for cell in cells]


async def stretch(stand: Stand, people: Crowd, seconds: float) -> Cell:
    """What so many seconds give."""
    await people.measure(seconds)
    load = people.tally.report(FRAME_S)
    return Cell(stand.topology, people.alive, load, 0, await asyncio.to_thread(stand.stats))


def held(cells: Sequence[Cell]) -> int:
    """The largest number of sessions up to which every measured one was held."""
    best = 0
    for cell in cells:
        if not cell.is_held:
            break
        best = cell.sessions
    return best


def overload_line(before: Cell, after: Cell) -> dict[str, Any]:
    """What the admitted sessions noticed, and how quickly the others were told."""
    p99_ms = [cell.load.send_reply.p99_ms if cell.load.send_reply else None for cell in (before, after)]
    refused = after.load.refused_in
    return {
        "p99_before_ms": p99_ms[0],
        "p99_after_ms": p99_ms[1],
        "refused_p99_ms": refused and refused.p99_ms,
    }


def show(cells: Sequence[Cell]) -> None:
    """For people."""
    table = Table(*COLUMNS, title=f"paluku {cells[0].topology}, latencies in ms")
    for cell in cells:
        load, line = cell.load, cell.line
        reaction, tick, counts = line["reaction_ms"], line["tick_ms"], load.counts
        table.add_row(
            str(cell.sessions),
            f"{reaction['mean']} ± {reaction['std']}, p99 {reaction['p99']}",
            f"{load.send_reply.mean_ms} / {load.send_reply.p99_ms}" if load.send_reply else "-",
            f"{tick['p50']} / {tick['p99']}",
            f"{load.late_share:.3%}",
            str(cell.lost_frames),
            str(line["refused"]),
            str(load.own_late.p99_ms if load.own_late else "-"),
            str(counts.get("foreign_frames", 0) + counts.get("misplaced_frames", 0)),
        )
    console.print(table)


if __name__ == "__main__":
    main()
