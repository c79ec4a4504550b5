"""A service over stages without a model, on a clock that stands still: minutes of serving in milliseconds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from paluku.serving.config import ServingConfig
from paluku.serving.events import Event, ReplyFrame
from paluku.serving.service import Service
from paluku.serving.session import Session
from tests.fakes.clock import FakeClock
from tests.fakes.stages import GRAPH, FakeFleet, FakeSnapshots, fake_fleets, frame

TICK_S = 0.04


class World:
    """The service and everything around it."""

    def __init__(
        self,
        num_seats: int = 4,
        replicas: int = 1,
        kinds: Sequence[str] = GRAPH,
        config: ServingConfig | None = None,
        fleets: list[FakeFleet] | None = None,
        snapshots: FakeSnapshots | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.fleets = fleets or fake_fleets(num_seats, replicas, kinds)
        self.snapshots = snapshots or FakeSnapshots()
        # Timeouts run on the event loop's clock: on a machine that is busy they must not strike here.
        config = config or ServingConfig(step_timeout_s=60.0, lone_step_timeout_s=60.0, open_timeout_s=60.0)
        self.service = Service(self.fleets, self.snapshots, config, self.clock)

    def prime_slowly(self, ticks: float) -> None:
        """From now on a prime takes so long on every replica there is."""

        async def pass_by() -> None:
            await self.clock.sleep_until(self.clock.now() + ticks * TICK_S)

        for fleet in self.fleets:
            for replica in fleet.replicas:
                replica.priming = pass_by

    def step_slowly(self, ticks: float) -> None:
        """From now on a step takes so long on every replica there is."""

        async def pass_by() -> None:
            await self.clock.sleep_until(self.clock.now() + ticks * TICK_S)

        for fleet in self.fleets:
            for replica in fleet.replicas:
                replica.stepping = pass_by

    async def pass_slowly(self, ticks: float, parts: int = 40) -> None:
        """Let ticks pass in so many parts each: what happens within a tick happens in its order."""
        for _ in range(round(ticks * parts)):
            self.clock.advance(TICK_S / parts)
            await settle()

    async def tick(self, ticks: int = 1) -> None:
        """Let ticks pass, and all that they set off."""
        for _ in range(ticks):
            self.clock.advance(TICK_S)
            await settle()

    async def talk(self, frames: Sequence[int], *sessions: Session) -> None:
        """One tick for each frame, which every session speaks: `frames` are the first code of each."""
        for code in frames:
            for session in sessions:
                session.hear(frame(code), self.clock.now())
            await self.tick()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    await world.service.start()
    await settle()
    try:
        yield world
    finally:
        await world.service.stop()


async def settle() -> None:
    """Let everything run that needs no time to pass."""
    for _ in range(100):
        await asyncio.sleep(0)


def waiting(session: Session) -> list[Event]:
    """What the session would say now, taken out."""
    return [session.outbox.get_nowait() for _ in range(session.outbox.qsize())]


def said(events: Sequence[Event]) -> list[tuple[int, int | None]]:
    """Of each reply frame its number, and the code it holds; None where there is no reply."""
    frames = [event for event in events if isinstance(event, ReplyFrame)]
    return [(event.number, int(event.pcm[0]) if event.present else None) for event in frames]
