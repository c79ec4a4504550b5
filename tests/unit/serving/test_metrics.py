"""What a scrape says, against a service over stages without a model."""

import asyncio
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
from paluku.serving.metrics import registry
from paluku.streaming.ports import Conditions
from tests.fakes.world import World, running, waiting

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
        world.service.metrics.counts["moves_drain"] += 2
        world.service.metrics.counts["resumes"] += 3
        of = scraped(world, gate)
        assert of("paluku_refusals_total")["seats",] == 1
        assert of("paluku_refusals_total")["unauthorized",] == 1
        assert of("paluku_moves_total")["drain",] == 2
        assert of("paluku_resumes_total") == {(): 3}
        assert of("paluku_endings_total") == {("done",): 1, ("idle",): 1}

    run(script, num_seats=1)


def test_two_applications_of_a_process_do_not_share_series() -> None:
    async def script(world: World, gate: Gate) -> None:
        one, two = (generate_latest(registry(world.service, gate)).decode() for _ in range(2))
        assert one != two  # each names itself
        assert one.count("# HELP paluku_sessions ") == two.count("# HELP paluku_sessions ") == 1

    run(script)


def test_the_page_for_operators_names_every_series_and_statistic() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")

    async def script(world: World, gate: Gate) -> None:
        families = text_string_to_metric_families(generate_latest(registry(world.service, gate)).decode())
        names = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
        assert len(names) > 10
        assert [name for name in names if f"`{name}`" not in page] == []
        assert [name for name in world.service.stats() if f"`{name}`" not in page] == []

    run(script)
