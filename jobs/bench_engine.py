"""The engine's tick by seats, and beside package `moshi` at the same sizes; the last line is JSON."""

import argparse
import json
import time

import numpy as np
import torch

from jobs.engine_rivals import Step, codec_of, moshi, ours, random_model, sizes
from paluku.errors import exits_cleanly
from paluku.s2s.config import S2SConfig
from paluku.units import FRAME_MS, MS_PER_S

WARM_UP, BATCHES, BLOCKS = 5, (1, 16), 5


def timed(step: Step, frames: int) -> np.ndarray:
    """`[2, F]`: ms of the clock on the wall, and of this process's cores."""
    for _ in range(WARM_UP):
        step()
    marks = [(time.perf_counter(), time.process_time())]
    for _ in range(frames):
        step()
        marks.append((time.perf_counter(), time.process_time()))
    return np.diff(np.array(marks), axis=0).T * MS_PER_S


def ratio(config: S2SConfig, batch: int, arguments: argparse.Namespace) -> float:
    """How many times longer a step of `moshi` takes, the medians of blocks in turn; of Converse alone."""
    own = ours(random_model(config, arguments.device), batch, None, compiled=arguments.compiled)
    rivals = {"moshi": moshi(config, batch, arguments.device), "ours": own}
    spent: dict[str, list[np.ndarray]] = {name: [] for name in rivals}
    for _ in range(BLOCKS):
        for name, step in rivals.items():
            spent[name].append(timed(step, arguments.frames // BLOCKS))
    clock = 0 if arguments.device == "cuda" else 1  # others on the machine must not count
    ms = {name: float(np.median(np.hstack(blocks)[clock])) for name, blocks in spent.items()}
    print(f"batch {batch}: moshi {ms['moshi']:.2f} ms, ours {ms['ours']:.2f} ms")
    return round(ms["moshi"] / ms["ours"], 2)


@exits_cleanly
def main() -> None:
    """Build, step, print."""
    parser = argparse.ArgumentParser(prog="python -m jobs.bench_engine", description=__doc__)
    parser.add_argument("--config", default="tiny", help="tiny (the shipped model), base, large or moshi_7b")
    parser.add_argument("--seats", default="1,8,16,24,32", help="tables of so many seats, each full")
    parser.add_argument("--frames", type=int, default=200, help="ticks of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compiled", action="store_true", help="torch.compile on the CPU; minutes a table")
    parser.add_argument("--moshi", action="store_true", help="compare with package moshi")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = sizes(arguments.config)
    codec = codec_of(config, arguments.device)
    model, found = random_model(config, arguments.device), {"p50_ms": {}, "p99_ms": {}, "cpu_p50_ms": {}}
    for seats in map(int, arguments.seats.split(",")):
        wall, cpu = timed(ours(model, seats, codec, compiled=arguments.compiled), arguments.frames)
        numbers = np.percentile(wall, 50), np.percentile(wall, 99), np.percentile(cpu, 50)
        for name, ms in zip(found, numbers, strict=True):
            found[name][seats] = round(float(ms), 2)
        print(f"{seats} seats: p50 {numbers[0]:.2f} ms, p99 {numbers[1]:.2f} ms, cores {numbers[2]:.2f} ms")
    held = max((seats for seats, ms in found["p99_ms"].items() if ms < FRAME_MS), default=0)
    ratios = {batch: ratio(config, batch, arguments) for batch in BATCHES} if arguments.moshi else {}
    print(json.dumps({"seats": held, **found, "ratio_to_moshi": ratios}))


if __name__ == "__main__":
    main()
