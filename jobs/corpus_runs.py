"""One build of a corpus to be timed: by Ray Data or by a plain loop, in a process of its own."""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from jobs.peak_memory import PeakMemory
from paluku.cluster.local import LocalRay
from paluku.corpus.building.plain_loop import build_plainly
from paluku.corpus.config import CorpusConfig


class Run(NamedTuple):
    """How long it took (imports and the cluster's start left out), and what it made."""

    seconds: float
    sha256: tuple[str, ...]  # of the shards


def by_loop(config: CorpusConfig) -> Run:
    """One recording after another."""
    began = time.monotonic()
    shards = build_plainly(config).shards
    return Run(time.monotonic() - began, tuple(shard.sha256 for shard in shards))


def by_ray(config: CorpusConfig) -> Run:
    """What `jobs/build_corpus.py` does."""
    import ray

    from paluku.cluster.corpus import build

    ray.init(address=os.environ["RAY_ADDRESS"], logging_level=logging.ERROR)
    began = time.monotonic()
    shards = build(config).shards
    return Run(time.monotonic() - began, tuple(shard.sha256 for shard in shards))


def run(how: Callable[[CorpusConfig], Run], speech: Path, ray: LocalRay) -> Run:
    """Build once from a folder of recordings; no run finds what the one before has loaded.

    Raises:
        PalukuError: as `build`.
    """
    spawn, env = get_context("spawn"), {**ray.env, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(dir=speech.parent) as out:
        config = CorpusConfig(out=out, recordings=str(speech), max_reject_share=1.0)
        with ProcessPoolExecutor(1, spawn, initializer=_begin, initargs=(env,)) as process:
            return process.submit(how, config).result()


def run_watched(how: Callable[[CorpusConfig], Run], speech: Path, ray: LocalRay) -> tuple[Run, int]:
    """`run`, and the most memory it held, in MB.

    Its time is not to be quoted: looking takes a seventh of a core, and holds up whoever is looked at.
    """
    with PeakMemory() as peak:
        done = run(how, speech, ray)
    return done, round(peak.num_bytes / 1e6)


def side_by_side(count: int, speech: Path, ray: LocalRay) -> float:
    """Seconds that so many loops take at once, each over all of the files, with no Ray among them.

    Cores that share a cache, memory or a power budget do less at once than one after the other. What this
    takes more than one loop alone is lost to any way of using all of them.
    """
    with ThreadPoolExecutor(count) as threads:
        return max(threads.map(lambda _: run(by_loop, speech, ray).seconds, range(count)))


def _begin(env: dict[str, str]) -> None:
    os.environ.update(env)  # before anything reads it: Ray's address and token, one thread a process
