import asyncio
from collections.abc import Awaitable, Callable

from paluku.serving.fleet import ASK_EVERY_S, PATIENCE_S, AskingFleet
from paluku.serving.ports import Fleet, Pressure, StageLostError, StageStatus
from paluku.serving.router import Picture
from tests.fakes.clock import FakeClock


class Answering:
    """The part of a replica that a fleet calls."""

    def __init__(self, replica_id: str) -> None:
        self.replica_id = replica_id
        self.pressures: list[Pressure] = []
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def status(self, pressure: Pressure) -> StageStatus:
        self.pressures.append(pressure)
        await self.gate.wait()
        if self.fails:
            raise StageLostError("gone")
        return StageStatus(bundles=("b",), num_seats=4, seats_used=len(self.pressures))


class House:
    """A fleet, the replicas it was told of, and its clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.replicas: dict[str, Answering] = {}
        self.refused = 0
        self.fleet = AskingFleet(self._connect, self.clock)  # type: ignore[arg-type]

    def _connect(self, replica_id: str) -> Answering:
        return self.replicas.setdefault(replica_id, Answering(replica_id))

    @property
    def members(self) -> list[tuple[str, bool]]:
        return [(member.replica.replica_id, member.is_leaving) for member in self.fleet.members]

    async def appear(self, running: str, leaving: str = "") -> None:
        """One letter is one replica."""
        self.fleet.appeared(Picture(tuple(running), tuple(leaving)))
        await settle()

    async def a_round(self) -> None:
        self.clock.advance(ASK_EVERY_S)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def inside(test: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        house = House()
        await house.fleet.start(lambda: Pressure(refused=house.refused))
        await settle()
        await test(house)
        await house.fleet.stop()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_it_is_a_fleet() -> None:
    assert isinstance(House().fleet, Fleet)


def test_a_replica_is_a_member_after_its_first_answer() -> None:
    async def test(house: House) -> None:
        slow = house._connect("b")
        slow.gate.clear()
        await house.appear("ab")
        assert house.members == [("a", False)]
        slow.gate.set()
        await settle()
        assert house.members == [("a", False), ("b", False)]

    inside(test)


def test_each_is_asked_once_a_second_with_the_pressure_of_that_second() -> None:
    async def test(house: House) -> None:
        await house.appear("a")
        house.refused = 3
        await house.a_round()
        house.refused = 0
        await house.a_round()
        assert [pressure.refused for pressure in house.replicas["a"].pressures] == [0, 3, 0]
        assert house.fleet.members[0].status.seats_used == 3  # the newest answer

    inside(test)


def test_a_lost_one_is_out_until_it_answers_again() -> None:
    async def test(house: House) -> None:
        await house.appear("ab")
        house.fleet.lost("a")
        assert house.members == [("b", False)]
        house.replicas["a"].fails = True
        await house.a_round()
        assert house.members == [("b", False)]
        house.replicas["a"].fails = False
        await house.a_round()
        assert house.members == [("a", False), ("b", False)]
        house.fleet.failed("b")
        assert house.members == [("a", False)]
        house.fleet.lost("never seen")

    inside(test)


def test_an_answer_to_what_was_asked_before_the_loss_does_not_count() -> None:
    async def test(house: House) -> None:
        await house.appear("a")
        house.replicas["a"].gate.clear()
        await house.a_round()
        house.fleet.lost("a")
        house.replicas["a"].gate.set()
        await settle()
        assert house.members == []
        await house.a_round()
        assert house.members == [("a", False)]

    inside(test)


def test_a_leaving_one_stays_until_it_no_longer_answers() -> None:
    async def test(house: House) -> None:
        await house.appear("ab")
        await house.appear("a", leaving="b")
        await house.a_round()
        assert house.members == [("a", False), ("b", True)]
        house.replicas["b"].fails = True
        await house.a_round()
        assert house.members == [("a", False)]

    inside(test)


def test_one_that_was_reconfigured_comes_back_as_it_was() -> None:
    async def test(house: House) -> None:
        await house.appear("ab")
        await house.appear("b", leaving="a")
        await house.appear("ab")
        assert house.members == [("a", False), ("b", False)]
        assert len(house.replicas["a"].pressures) == 1  # known, and not asked anew

    inside(test)


def test_one_that_disappeared_is_forgotten_with_its_question() -> None:
    async def test(house: House) -> None:
        await house.appear("ab")
        house.replicas["a"].gate.clear()
        await house.a_round()
        await house.appear("b")
        assert house.members == [("b", False)]
        house.replicas["a"].gate.set()
        await settle()
        assert house.members == [("b", False)]

    inside(test)


def test_one_that_hangs_is_out_after_its_time_and_holds_up_nobody() -> None:
    async def test(house: House) -> None:
        await house.appear("ab")
        hanging = house.replicas["a"]
        hanging.gate.clear()
        rounds = round(PATIENCE_S / ASK_EVERY_S)
        for _ in range(rounds):
            await house.a_round()
            assert house.members == [("a", False), ("b", False)]
        assert len(hanging.pressures) == 2  # one question at a time
        await house.a_round()
        assert house.members == [("b", False)]
        assert len(house.replicas["b"].pressures) == rounds + 2
        hanging.gate.set()
        await settle()
        assert house.members == [("a", False), ("b", False)]

    inside(test)
