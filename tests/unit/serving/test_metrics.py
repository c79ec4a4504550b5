"""What a scrape says, against a service over stages without a model."""

import asyncio
import importlib.metadata
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from paluku.errors import SeatsExhausted
from paluku.protocol.messages import CloseCode
from paluku.serving.config import ServingConfig
from paluku.serving.events import Ending
from paluku.serving.gate import Gate, Refused
from paluku.serving.machine import Machine, MachineWatch
from paluku.serving.metrics import registry
from paluku.streaming.ports import Conditions
from tests.fakes.stages import BUNDLE, FakeReplica
from tests.fakes.world import World, running, waiting

ROOT = Path(__file__).parents[3]
Series = dict[tuple[str, ...], float]


def scraped(world: World, gate: Gate) -> Callable[[str], Series]:
    """By name: values by labels (without the process's own)."""
    families = text_string_to_metric_families(generate_latest(registry(world.service, gate)).decode())
    samples = [sample for family in families for sample in family.samples]
    assert {sample.labels.pop("ingress") for sample in samples} != {""}

    def of(name: str) -> Series:
        """Label values in the order of the labels' names."""
        found = [s for s in samples if s.name == name]
        return {tuple(s.labels[label] for label in sorted(s.labels, reverse=True)): s.value for s in found}

    return of


def run(script: Callable[[World, Gate], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def whole() -> None:
        world = World(**options)
        async with running(world):
            await script(world, Gate(ServingConfig(), world.clock, {"PALUKU_KEYS": "a=pk_" + "x" * 20}))

    asyncio.run(whole())


def test_sessions_seats_and_frames() -> None:
    async def script(world: World, gate: Gate) -> None:
        async with world.service.attached(Conditions()) as session:
            await world.talk([1, 2, 3], session)
            await world.tick(2)
            of = scraped(world, gate)
            assert of("paluku_sessions") == {(): 1}
            assert of("paluku_seats") == {(): 4}
            assert of("paluku_seats_used") == {(): 1}
            assert of("paluku_frames_in_total") == {(): 3}
            assert of("paluku_frames_total") == {("on_time",): 3, ("late",): 0, ("lost",): 0}
            assert of("paluku_sessions_opened_total") == {(): 1}
            waiting(session)
            session.end(Ending(CloseCode.DONE))
        assert scraped(world, gate)("paluku_sessions") == {(): 0}

    run(script)


def test_durations_are_cumulative_buckets_in_seconds() -> None:
    async def script(world: World, gate: Gate) -> None:
        metrics = world.service.metrics
        now_s = world.clock.now()
        for seconds in (0.001, 0.016, 0.017, 3.0):
            metrics.ticked(now_s - seconds)
        metrics.staged("encode", 0.004)
        of = scraped(world, gate)
        buckets = {le: value for (le,), value in of("paluku_tick_seconds_bucket").items()}
        assert (buckets["0.002"], buckets["0.015"], buckets["0.02"]) == (1, 1, 3)
        assert (buckets["1.0"], buckets["+Inf"]) == (3, 4)
        assert of("paluku_tick_seconds_count") == {(): 4}
        assert of("paluku_tick_seconds_sum")[()] == pytest.approx(3.034)
        assert of("paluku_stage_step_seconds_count") == {("encode",): 1}
        steps = of("paluku_stage_step_seconds_bucket")
        assert (steps["encode", "0.005"], steps["encode", "0.002"]) == (1, 0)

    run(script)


def test_reasons_are_labels() -> None:
    async def script(world: World, gate: Gate) -> None:
        with pytest.raises(Refused):
            gate.admit({}, "192.0.2.1")
        async with world.service.attached(Conditions()) as session:
            with pytest.raises(SeatsExhausted):
                async with world.service.attached(Conditions()):
                    pass
            session.end(Ending(CloseCode.DONE))
        world.service.ended(Ending(CloseCode.DONE))
        world.service.ended(Ending.of(CloseCode.POLICY, "idle", "no sound came"))
        world.service.ended(Ending.of(CloseCode.STAGE_LOST, "stage_lost", "a stage is lost"))
        world.service.metrics.counts["moves_drain"] += 2
        world.service.metrics.counts["resumes"] += 3
        of = scraped(world, gate)
        assert of("paluku_refusals_total") == {("seats",): 1, ("late",): 0, ("unauthorized",): 1}
        assert of("paluku_moves_total")["drain",] == 2
        assert of("paluku_resumes_total") == {(): 3}
        assert of("paluku_endings_total") == {("done",): 1, ("idle",): 1, ("stage_lost",): 1}
        assert of("paluku_errors_total") == {("internal_error",): 0, ("stage_lost",): 1}

    run(script, num_seats=1)


def test_two_applications_of_a_process_do_not_share_series() -> None:
    async def script(world: World, gate: Gate) -> None:
        other = World()
        async with running(other):
            one, two = (generate_latest(registry(w.service, gate)).decode() for w in (world, other))
        assert {world.service.name in one, other.service.name in two} == {True}
        assert {other.service.name in one, world.service.name in two} == {False}
        assert one.count("# HELP paluku_sessions ") == two.count("# HELP paluku_sessions ") == 1

    run(script)


def test_seats_are_free_when_they_are_on_every_stage() -> None:
    async def script(world: World, gate: Gate) -> None:
        world.fleets[1].replicas[0].num_seats = 3  # of Converse; the others have 4
        for free in (3, 2, 1):
            assert scraped(world, gate)("paluku_seats_free") == {(): free}
            await world.service._new(Conditions())
        assert scraped(world, gate)("paluku_seats_free") == {(): 0}

    run(script)


def test_what_is_served_is_named() -> None:
    async def script(world: World, gate: Gate) -> None:
        built = scraped(world, gate)("paluku_build_info")
        assert built == {(importlib.metadata.version("paluku"), BUNDLE): 1}

    run(script)


def test_a_frames_way_through_the_server_is_a_histogram() -> None:
    async def script(world: World, gate: Gate) -> None:
        async with world.service.attached(Conditions()) as session:
            await world.talk([1, 2], session)
            await world.tick(2)
            of = scraped(world, gate)
            # They came at the instant of a tick, and waited a whole one.
            assert (of("paluku_answer_seconds_count"), of("paluku_answer_seconds_sum")[()]) == (
                {(): 2},
                pytest.approx(0.08),
            )
            # Half a frame, that wait, and the model's delay of a frame.
            assert of("paluku_reaction_seconds")[()] == pytest.approx(0.02 + 0.04 + 0.04)
            assert of("paluku_frame_seconds") == {(): 0.04}
            session.end(Ending(CloseCode.DONE))

    run(script)


def test_each_process_tells_its_machine_and_only_those_with_a_gpu_a_gpu() -> None:
    async def script(world: World, gate: Gate) -> None:
        told = Machine(
            node="gpu-7",
            memory_resident_bytes=5,
            disk_free_bytes=30,
            disk_size_bytes=100,
            gpu_free_bytes=8,
            gpu_size_bytes=80,
        )
        tell(world.fleets[1].replicas[0], told)
        tell(
            world.fleets[2].replicas[0],
            told.model_copy(update={"gpu_free_bytes": None, "gpu_size_bytes": None}),
        )
        of = scraped(world, gate)
        assert of("paluku_gpu_memory_free_bytes") == {("converse", "converse-0", "gpu-7"): 8}
        assert of("paluku_gpu_memory_size_bytes") == {("converse", "converse-0", "gpu-7"): 80}
        free = of("paluku_disk_free_bytes")
        assert free["decode", "decode-0", "gpu-7"] == 30
        assert {stage for stage, _, _ in free} == {"ingress", "converse", "decode"}
        own = ("ingress", world.service.name, platform.node())
        assert of("paluku_memory_resident_bytes")[own] > 10e6  # this very process

    run(script)


def tell(replica: FakeReplica, machine: Machine) -> None:
    """From now on the replica's status says so."""
    status = replica.status_now
    replica.status_now = lambda: status().model_copy(update={"machine": machine})


def names(text: str) -> set[str]:
    """Of all families, as they are written in a query."""
    families = text_string_to_metric_families(text)
    return {f"{f.name}_total" if f.type == "counter" else f.name for f in families}


async def everything(world: World, gate: Gate) -> str:
    """A scrape of a server that has answered a frame and has a GPU: no series is absent."""
    gpu = {"gpu_free_bytes": 8, "gpu_size_bytes": 80}
    machine = MachineWatch(Path("/"), world.clock).latest.model_copy(update=gpu)
    tell(world.fleets[0].replicas[0], machine)
    async with world.service.attached(Conditions()) as session:
        await world.talk([1], session)
        await world.tick()
        session.end(Ending(CloseCode.DONE))
    return generate_latest(registry(world.service, gate)).decode()


def test_the_page_for_operators_documents_exactly_what_is_exposed() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## `/metrics`")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `paluku_")]
    documented = [name for row in rows for name in re.findall(r"`(paluku_\w+)`", row)]

    async def script(world: World, gate: Gate) -> None:
        assert sorted(documented) == sorted(names(await everything(world, gate)))
        assert [name for name in world.service.stats() if f"`{name}`" not in page] == []

    run(script)


def test_names_and_types_follow_prometheus_conventions() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not here; apt-get install prometheus")

    async def script(world: World, gate: Gate) -> None:
        text = await everything(world, gate)
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    run(script)
