"""Faults under live sessions: `python -m jobs.chaos --kills 20 --sessions 8`.

Kills replicas of each kind in turn, drains and reloads stages, redeploys the ingress, while sessions speak in
real time; then every session must be there, and nothing left behind. The last line is JSON.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

from rich.console import Console
from rich.table import Table

from jobs.stand import Stand
from paluku.client.load import Crowd, crowd
from paluku.client.tally import Silence
from paluku.cluster.faults import Kind, deployment_of, kill
from paluku.errors import ServiceError, exits_cleanly
from paluku.registry.results import log_serving

WARM_UP_S = 3.0
SETTLE_TIMEOUT_S = 90.0
# Speech between the end of one fault and the next: the memory is pushed, the windows are full again.
PAUSE_S = 2.0
# Longer than a lease, so that a seat nobody holds has had the time to become free.
LEASE_PATIENCE_S = 15.0
# What a process may have gained without having leaked: a connection to a peer that was replaced.
FD_TOLERANCE = 16
TASK_TOLERANCE = 10
console = Console(stderr=True)


class Fault(NamedTuple):
    """One thing to do to a running service."""

    name: str
    do: Callable[[], Any]


class Outcome(NamedTuple):
    """What it did to the sessions."""

    name: str
    gaps_s: list[float]  # each session's longest
    alive: int


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.chaos", description=__doc__)
    parser.add_argument("--topology", choices=("fused", "graph"), default="graph")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--kills", type=int, default=0, help="in all, of the kinds in turn")
    parser.add_argument("--kind", choices=(*get_args(Kind), "all"), default="all")
    parser.add_argument("--drains", type=int, default=0, help="scale the stages down, and up again")
    parser.add_argument("--reloads", type=int, default=0, help="serve another model of the same codec")
    parser.add_argument("--redeploys", type=int, default=0, help="of the ingress")
    parser.add_argument("--controls", type=int, default=0, help="do nothing, and measure the silence of that")
    parser.add_argument(
        "--model", action="store_true", help="the demo's model; else stand-ins that name frames"
    )
    parser.add_argument("--tracking-uri", help="an MLflow server to log to")
    return parser.parse_args(argv)


def kinds(topology: str, kind: Kind | Literal["all"]) -> tuple[Kind, ...]:
    """What can be killed in a topology, in turn.

    Raises:
        ServiceError: when it has no such replicas.
    """
    stages: tuple[Kind, ...] = ("speech",) if topology == "fused" else ("encode", "converse", "decode")
    there: tuple[Kind, ...] = (*stages, "memory", "ingress")
    if kind != "all" and kind not in there:
        raise ServiceError(f"topology {topology} has no {kind} replicas; choose of {', '.join(there)}")
    return tuple(each for each in there if kind in ("all", each))


def plan(asked: argparse.Namespace, stand: Stand) -> list[Fault]:
    """All that will be done, in order."""
    which = kinds(asked.topology, asked.kind)
    victims: list[Kind] = [which[n % len(which)] for n in range(asked.kills)]
    faults = [Fault(f"kill {kind}", partial(strike, stand, kind, n)) for n, kind in enumerate(victims)]
    for _ in range(asked.drains):
        faults += [Fault("drain", partial(stand.scale, 1)), Fault("scale up", partial(stand.scale, 2))]
    faults += [Fault("nothing", lambda: None) for _ in range(asked.controls)]
    faults += [Fault("reload", partial(stand.reload, n + 1)) for n in range(asked.reloads)]
    faults += [Fault("redeploy ingress", partial(stand.redeploy_ingress, n)) for n in range(asked.redeploys)]
    return faults


def strike(stand: Stand, kind: Kind, number: int) -> None:
    """End one replica of a kind as kill -9 does, another one each time."""
    pids = stand.replicas.pids()[deployment_of(kind)]
    kill(pids[number % len(pids)])


@exits_cleanly
def main() -> None:
    """Start, hurt, count, stop."""
    asked = arguments()
    kinds(asked.topology, asked.kind)
    with Stand(asked.topology, asked.sessions, stand_in=not asked.model, replicas=2) as stand:
        outcomes, tally, leaks = asyncio.run(suffer(stand, asked))
    show(outcomes)
    console.print({**tally.counts, "endings": dict(tally.endings), "leaks": leaks})
    wrong = {name: tally.counts[name] for name in ("foreign_frames", "misplaced_frames", "violations")}
    last = {
        "kills": asked.kills,
        "sessions_lost": tally.counts["sessions_lost"],
        "leaks": len(leaks),
        "silence_ms": Silence.of(gap for outcome in outcomes for gap in outcome.gaps_s).model_dump(),
        **wrong,
        "lost_frames": tally.counts["lost_frames"],
    }
    if asked.tracking_uri:
        log_serving(asked.tracking_uri, "chaos", vars(asked), [last])
    print(json.dumps(last))


async def suffer(stand: Stand, asked: argparse.Namespace) -> tuple[list[Outcome], Any, list[str]]:
    """Every fault under the same sessions; then what was left behind."""
    replicas = stand.replicas
    await asyncio.to_thread(replicas.wait_settled, SETTLE_TIMEOUT_S)
    tasks = most(await samples(stand), "tasks")  # with sessions it would be theirs: they change the ingress
    async with crowd(stand.websocket_url, stand.load(), stand.sound()) as people:
        if await people.gather(asked.sessions) < asked.sessions:
            raise ServiceError(
                f"not all of {asked.sessions} sessions were seated: {dict(people.tally.endings)}"
            )
        await asyncio.sleep(WARM_UP_S)
        before = await asyncio.to_thread(replicas.usage)
        outcomes = [await endure(stand, people, fault) for fault in plan(asked, stand)]
        people_after = await asyncio.to_thread(replicas.usage)
        await people.finish()
        leaks = [
            f"{name} {pid} has {now.fds - before[name][pid].fds} more file descriptors"
            for name, processes in people_after.items()
            for pid, now in processes.items()
            if pid in before.get(name, {}) and now.fds > before[name][pid].fds + FD_TOLERANCE
        ]
        leaks += await seats_left(stand)
        if (grown := most(await samples(stand), "tasks") - tasks) > TASK_TOLERANCE:
            leaks.append(f"an ingress has {grown} more tasks")
        return outcomes, people.tally, leaks


async def endure(stand: Stand, people: Crowd, fault: Fault) -> Outcome:
    """One fault, until the cluster is whole and everybody is answered again."""
    people.mark()
    began_s = time.monotonic()
    await asyncio.to_thread(fault.do)
    await asyncio.sleep(1.0)  # what was struck is not known to be gone at once
    await asyncio.to_thread(stand.replicas.wait_settled, SETTLE_TIMEOUT_S)
    await asyncio.sleep(PAUSE_S)
    outcome = Outcome(fault.name, people.gaps_s(), people.alive)
    worst_ms = Silence.of(outcome.gaps_s).max
    console.print(f"{fault.name:18} {outcome.alive} alive, longest silence {worst_ms} ms, whole after "
                  f"{time.monotonic() - began_s - PAUSE_S:.1f} s")  # fmt: skip
    return outcome


async def seats_left(stand: Stand) -> list[str]:
    """Seats and sessions that nobody has any more and that are not free."""
    deadline_s = time.monotonic() + LEASE_PATIENCE_S
    while True:
        stats = await samples(stand)
        left = [f"{count} {what}" for what in ("sessions", "seats_used") if (count := most(stats, what))]
        if not left or time.monotonic() > deadline_s:
            return left
        await asyncio.sleep(1.0)


async def samples(stand: Stand) -> list[dict[str, Any]]:
    """What the ingresses say: each in turn, and again."""
    return [await asyncio.to_thread(stand.stats) for _ in range(4)]


def most(stats: Sequence[dict[str, Any]], what: str) -> int:
    """The largest of a number among the ingresses."""
    return max(each[what] for each in stats)


def show(outcomes: Sequence[Outcome]) -> None:
    """For people: silence by what was done."""
    table = Table("fault", "times", "silence p50 ms", "max ms", "fewest alive")
    for name in dict.fromkeys(outcome.name for outcome in outcomes):
        same = [outcome for outcome in outcomes if outcome.name == name]
        silence = Silence.of(gap for outcome in same for gap in outcome.gaps_s)
        fewest = min(outcome.alive for outcome in same)
        table.add_row(name, str(len(same)), str(silence.p50), str(silence.max), str(fewest))
    console.print(table)


if __name__ == "__main__":
    main()
