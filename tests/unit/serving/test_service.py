"""The clock of the service, without sockets."""

import asyncio

from paluku.serving.config import ServingConfig
from paluku.serving.service import Service
from paluku.streaming.ports import Conditions
from tests.fakes.clock import FakeClock
from tests.fakes.stages import card, fake_stages, frame

TICK_S = 0.04


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_ticks_that_were_slept_through_are_skipped_and_the_phase_is_kept() -> None:
    async def run() -> None:
        clock = FakeClock()
        service = Service(fake_stages(1), card(1), ServingConfig(), clock)
        service.start()
        async with service.seated(Conditions()) as session:
            session.hear(frame() * 9, 0.0)
            clock.advance(5.5 * TICK_S)  # ticks 1 to 5 were due: the first and the last are done
            await settle()
            assert service.stats()["ticks_missed"] == 3
            assert session.frames_out == 4  # two ticks, each with its catch-up
            clock.advance(0.4 * TICK_S)
            await settle()
            assert session.frames_out == 4
            clock.advance(0.1 * TICK_S)  # tick 6, on its old grid
            await settle()
            assert session.frames_out == 6
        await service.stop()

    asyncio.run(run())


def test_a_stopped_service_says_so() -> None:
    async def run() -> None:
        service = Service(fake_stages(1), card(1), ServingConfig(), FakeClock())
        assert not service.is_running
        service.start()
        assert service.is_running
        await service.stop()
        assert not service.is_running

    asyncio.run(run())


def test_a_dead_clock_is_noticed() -> None:
    async def run() -> None:
        clock = FakeClock()
        service = Service(fake_stages(1), card(1), ServingConfig(), clock)
        service.start()
        async with service.seated(Conditions()) as session:
            session.next_frame = None  # type: ignore[assignment]  # a mistake of ours inside the tick
            clock.advance(TICK_S)
            await settle()
            assert not service.is_running
        await service.stop()

    asyncio.run(run())
