"""Whatever happens to replicas, a session hears the answer to all it said, once, in order, and no other's."""

import asyncio

import hypothesis.strategies as st
from hypothesis import given, settings

from paluku.serving.session import Session
from paluku.streaming.ports import Conditions
from tests.fakes.stages import GRAPH, FakeReplica, frame
from tests.fakes.world import World, running, said, settle, waiting

SESSIONS = 3
SEATS = 4

Event = tuple[str, int, int]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["talk", "kill", "leave", "add", "load", "slow"]),
        st.integers(0, 2),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=25,
)


class House:
    """A world, three sessions who say numbers of their own, and what they have heard."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: list[list[int]] = [[] for _ in range(SESSIONS)]
        self.heard: list[list[tuple[int, int | None]]] = [[] for _ in range(SESSIONS)]
        self.born = 0
        self.bundles = ["fake"]

    async def happen(self, event: Event, sessions: list[Session]) -> None:
        what, stage, number = event
        stage %= len(self.world.fleets)
        fleet = self.world.fleets[stage]
        alive = [r for r in fleet.replicas if r.replica_id not in fleet.leaving and not r.failing]
        match what:
            case "talk":
                await self.talk(sessions, 1 + number)
            case "kill" if len(alive) > 1:
                alive[number % len(alive)].failing.add("all")
            case "leave" if len(alive) > 1:
                fleet.leaving.add(alive[number % len(alive)].replica_id)
            case "add":
                self.add(stage)
            case "load":
                self.bundles.append(f"bundle {len(self.bundles)}")
                for every in self.world.fleets:
                    for replica in every.replicas:
                        replica.load(self.bundles[-1])
            case "slow":
                self.world.prime_slowly(number / 2)
            case _:
                await self.world.tick()

    def add(self, stage: int) -> None:
        fleet = self.world.fleets[stage]
        self.born += 1
        fresh = FakeReplica(fleet.replicas[0].kind, SEATS, f"{fleet.replicas[0].kind}-new-{self.born}")
        for bundle in self.bundles[1:]:
            fresh.load(bundle)
        fleet.replicas.append(fresh)

    async def talk(self, sessions: list[Session], ticks: int) -> None:
        for _ in range(ticks):
            for number, session in enumerate(sessions):
                code = 1000 * (number + 1) + len(self.said[number]) % 900
                self.said[number].append(code)
                session.hear(frame(code), self.world.clock.now())
            await self.world.tick()
            self.collect(sessions)

    def collect(self, sessions: list[Session]) -> None:
        for number, session in enumerate(sessions):
            self.heard[number] += said(waiting(session))


def scenario(kinds: tuple[str, ...], events: list[Event]) -> None:
    async def run() -> None:
        async with running(World(num_seats=SEATS, replicas=2, kinds=kinds)) as world:
            house = House(world)
            async with (
                world.service.attached(Conditions(seed=1)) as one,
                world.service.attached(Conditions(seed=2)) as two,
                world.service.attached(Conditions(seed=3)) as three,
            ):
                sessions = [one, two, three]
                await house.talk(sessions, 2)
                for event in events:
                    await house.happen(event, sessions)
                await world.tick(30)  # two seconds of sound at most wait, and one more step a tick is made
                house.collect(sessions)
                for number, session in enumerate(sessions):
                    assert session.ending is None, session.ending
                    codes = house.said[number]
                    assert house.heard[number] == [(0, None), *enumerate(codes[:-1], 1)]
                    session.end_well()
            await settle()
            held = [r.replica_id for f in world.fleets for r in f.replicas if r.held and not r.failing]
            assert not held, f"{held} still hold seats"

    asyncio.run(run())


@settings(max_examples=40)
@given(events=EVENTS)
def test_in_the_graph(events: list[Event]) -> None:
    scenario(GRAPH, events)


@settings(max_examples=20)
@given(events=EVENTS)
def test_fused(events: list[Event]) -> None:
    scenario(("fused",), events)
