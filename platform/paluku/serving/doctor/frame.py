"""Frames of sound through every stage of a bundle, as a replica steps them, held against the tick."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paluku.errors import PalukuError, ServiceError
from paluku.registry.bundle import open_bundle
from paluku.serving.doctor.finding import Finding, failure, warning, well
from paluku.serving.ports import RowStatus, StageCard
from paluku.serving.replica import ReplicaConfig, StageName, StageReplica
from paluku.serving.selftest import clip
from paluku.streaming.ports import FIRST_CODE, Conditions
from paluku.units import MS_PER_S

STAGES: tuple[StageName, ...] = ("encode", "converse", "decode")
# A second of steps after those that pay for allocations; their median is not moved by a busy neighbour.
WARM_UP_FRAMES, FRAMES = 5, 25
# Admission closes at this share of the tick (ServingConfig.admission_p99_share).
COMFORT = 0.7


class Times(NamedTuple):
    """Median milliseconds of a stage's step with one session, by stage, and of a tick."""

    stages_ms: Mapping[StageName, float]
    tick_ms: float


def check(bundle: str = "default", threads: int = 1) -> list[Finding]:
    """Load the bundle's stages and step them."""
    try:
        return judged(asyncio.run(timed(open_bundle(bundle), threads)))
    except PalukuError as error:
        todo = "mend what it names; `git checkout -- models` restores what is shipped"
        return [failure("frame", str(error), todo)]


def judged(times: Times) -> list[Finding]:
    """Each stage's time, and all of them against the tick."""
    whole_ms, tick_ms = sum(times.stages_ms.values()), times.tick_ms
    findings = [well(f"frame {stage}", f"{ms:.1f} ms") for stage, ms in times.stages_ms.items()]
    said = f"{whole_ms:.1f} ms of {tick_ms:g} ms for one session"
    if whole_ms >= tick_ms:
        todo = "use a faster machine, a GPU or a smaller model: not one session is in time here"
        return [*findings, failure("frame", said, todo)]
    if whole_ms > COMFORT * tick_ms:
        todo = "end what else runs here, or use a faster machine: no second session will be admitted"
        return [*findings, warning("frame", said, todo)]
    return [*findings, well("frame", said)]


async def timed(bundle: Path, threads: int) -> Times:
    """Speak the self-test's clip through the three stages, each a replica of its own.

    Raises:
        CheckpointError: when the bundle is damaged, or its parts do not fit.
        ServiceError: when a stage does not take a frame.
    """
    config = ReplicaConfig(
        bundle=str(bundle), tracking_uri="", cache=bundle.resolve(), num_seats=1, torch_threads=threads
    )
    stages: dict[StageName, StageReplica] = {name: StageReplica(name, config) for name in STAGES}
    leases: dict[StageName, int] = {
        name: await stage.open("doctor", Conditions().model_dump(), "") for name, stage in stages.items()
    }
    card = StageCard(**await stages["encode"].card(""))
    sound = clip(card.sample_rate_hz)
    spent_ms: dict[StageName, list[float]] = {name: [] for name in STAGES}
    for number in range(WARM_UP_FRAMES + FRAMES):
        row = sound[number * card.frame_samples : (number + 1) * card.frame_samples]
        for name, stage in stages.items():
            began_s = time.perf_counter()
            row = await _stepped(stage, name, leases[name], number, row)
            spent_ms[name].append((time.perf_counter() - began_s) * MS_PER_S)
    medians: dict[StageName, float] = {
        name: float(np.median(ms[WARM_UP_FRAMES:])) for name, ms in spent_ms.items()
    }
    return Times(medians, card.frame_samples / card.sample_rate_hz * MS_PER_S)


async def _stepped(
    stage: StageReplica, name: StageName, lease: int, number: int, row: np.ndarray
) -> np.ndarray:
    """What the next stage takes: a row `[S]` to codes `[K]` to the reply's codes `[K]` to `[S]`."""
    status, rows = await stage.step(np.array([lease]), np.array([number]), row[None])
    if status[0] != RowStatus.STEPPED:
        raise ServiceError(f"{name} did not take frame {number}: {RowStatus(status[0]).name.lower()}")
    return rows[0, FIRST_CODE:] if name == "converse" else rows[0]
