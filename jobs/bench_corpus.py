"""Hours of speech prepared per minute and core, by Ray Data and by a plain loop; memory at 1 h and 10 h."""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.corpus_runs import Run, by_loop, by_ray, run, run_watched, side_by_side
from paluku.cluster.local import LocalRay
from paluku.corpus.hours_of_speech import write_hours
from paluku.errors import exits_cleanly

MEMORY_H, QUICK_MEMORY_H, QUICK_H = (1.0, 10.0), (0.02, 0.1), 0.05
console = Console(stderr=True)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.bench_corpus", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of recordings to vary; else eSpeak NG speaks")
    parser.add_argument("--hours", type=float, default=10.0, help="of speech that are timed")
    parser.add_argument("--runs", type=int, default=2, help="of the loop and of Ray Data, in turn")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where to put about 500 MB an hour; a temporary folder")
    parser.add_argument("--quick", action="store_true", help="a few minutes of speech: no numbers to quote")
    found = parser.parse_args(argv)
    if found.runs < 1 or found.hours <= 0 or found.cpus < 1:
        parser.error("--runs and --cpus must be 1 or more, --hours more than 0")
    return found


@exits_cleanly
def main() -> None:
    """Make the speech, prepare it again and again, say what it took."""
    asked = arguments()
    timed_h, memory_h = (QUICK_H, QUICK_MEMORY_H) if asked.quick else (asked.hours, MEMORY_H)
    with tempfile.TemporaryDirectory(dir=asked.work) as home, LocalRay(num_cpus=asked.cpus) as ray:
        folders = {hours: Path(home) / f"{hours:g}h" for hours in sorted({timed_h, *memory_h})}
        there_h = {hours: write_hours(folder, hours, 0, asked.data) for hours, folder in folders.items()}
        # First, so that Ray Data's own actors, one set a cluster, are there when time is taken.
        held = {hours: run_watched(by_ray, folders[hours], ray)[1] for hours in memory_h}
        timed: dict[str, list[Run]] = {"loop": [], "ray": []}
        for _ in range(asked.runs):
            timed["loop"].append(run(by_loop, folders[timed_h], ray))
            timed["ray"].append(run(by_ray, folders[timed_h], ray))
        beside_s = side_by_side(asked.cpus, folders[timed_h], ray)
    show(timed, there_h[timed_h])
    assert len({done.sha256 for done in timed["loop"] + timed["ray"]}) == 1, "the shards differ"
    loop_s, ray_s = (statistics.median(done.seconds for done in runs) for runs in timed.values())
    at_best = asked.cpus * loop_s / beside_s
    console.print(
        f"{asked.cpus} loops at once: {beside_s:.1f} s, so {at_best:.2f} x is all that the cores give"
    )
    per_core = there_h[timed_h] / (ray_s / 60) / asked.cpus
    numbers = {"hours_per_minute_per_core": round(per_core, 3), "ratio_to_loop": round(loop_s / ray_s, 2)}
    print(json.dumps(numbers | {"rss_mb": {f"{hours:g}h": peak for hours, peak in held.items()}}))


def show(timed: dict[str, list[Run]], hours: float) -> None:
    """Every run, for people."""
    table = Table("build", "hours", "seconds", "hours / min", title="preparing speech")
    for name, runs in timed.items():
        for done in runs:
            table.add_row(name, f"{hours:.2f}", f"{done.seconds:.1f}", f"{hours / (done.seconds / 60):.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
