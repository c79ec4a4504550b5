"""One build of a corpus to be timed: by Ray Data or by a plain loop, in a process of its own."""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from jobs.peak_memory import PeakMemory
from paluku.cluster.local import LocalRay
from paluku.corpus.building.plain_loop import build_plainly
from paluku.corpus.config import CorpusConfig


class Run(NamedTuple):
    """How long it took (imports and the cluster's start left out), what it made, and the memory it held."""

    seconds: float
    sha256: tuple[str, ...]  # of the shards
    peak_mb: int = 0


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
    with tempfile.TemporaryDirectory(dir=speech.parent) as out, PeakMemory() as peak:
        config = CorpusConfig(out=out, recordings=str(speech), max_reject_share=1.0)
        with ProcessPoolExecutor(1, spawn, initializer=_begin, initargs=(env,)) as process:
            done = process.submit(how, config).result()
    return done._replace(peak_mb=round(peak.num_bytes / 1e6))


def _begin(env: dict[str, str]) -> None:
    os.environ.update(env)  # before anything reads it: Ray's address and token, one thread a process
