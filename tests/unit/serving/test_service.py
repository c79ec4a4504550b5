"""The clock of the service, without sockets."""

import asyncio

import pytest

from paluku.errors import SeatsExhausted, ServiceError
from paluku.serving.config import ServingConfig
from paluku.serving.events import Marked, Report
from paluku.streaming.ports import Conditions
from tests.fakes.stages import GRAPH, FakeReplica, frame
from tests.fakes.world import TICK_S, World, running, said, settle, waiting


def test_each_frame_is_answered_by_the_one_before_it_in_order() -> None:
    async def run(kinds: tuple[str, ...]) -> list[tuple[int, int | None]]:
        async with running(World(kinds=kinds)) as world, world.service.attached(Conditions()) as session:
            await world.talk([1, 2, 3, 4], session)
            return said(waiting(session))

    expected = [(0, None), (1, 1), (2, 2), (3, 3)]
    assert asyncio.run(run(GRAPH)) == expected
    assert asyncio.run(run(("fused",))) == expected


def test_ticks_that_were_slept_through_are_skipped_and_the_phase_is_kept() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            session.hear(frame() * 9, 0.0)
            world.clock.advance(5.5 * TICK_S)  # ticks 1 to 5 were due: the first and the last are done
            await settle()
            assert world.service.stats()["ticks_missed"] == 3
            assert session.frames_out == 4  # two ticks, each with its catch-up
            world.clock.advance(0.4 * TICK_S)
            await settle()
            assert session.frames_out == 4
            world.clock.advance(0.1 * TICK_S)  # tick 6, on its old grid
            await settle()
            assert session.frames_out == 6

    asyncio.run(run())


def test_a_stopped_service_says_so() -> None:
    async def run() -> None:
        world = World()
        assert not world.service.is_running
        async with running(world):
            assert world.service.is_running
        assert not world.service.is_running

    asyncio.run(run())


def test_a_dead_clock_is_noticed() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            session.next_frame_at = None  # type: ignore[assignment]  # a mistake of ours inside the tick
            session.hear(frame(), 0.0)
            await world.tick()
            assert not world.service.is_running

    asyncio.run(run())


def test_sessions_share_a_batch_and_do_not_hear_each_other() -> None:
    async def run() -> None:
        async with running(World()) as world:
            async with (
                world.service.attached(Conditions()) as one,
                world.service.attached(Conditions()) as other,
            ):
                for code in range(3):
                    one.hear(frame(10 + code), world.clock.now())
                    other.hear(frame(20 + code), world.clock.now())
                    await world.tick()
                assert said(waiting(one)) == [(0, None), (1, 10), (2, 11)]
                assert said(waiting(other)) == [(0, None), (1, 20), (2, 21)]
            assert [fleet.replicas[0].attempts for fleet in world.fleets] == [3, 3, 3]

    asyncio.run(run())


def test_who_finds_no_seat_is_told_when_to_try_again_and_the_seat_is_free_afterwards() -> None:
    async def run() -> None:
        async with running(World(num_seats=1)) as world:
            async with world.service.attached(Conditions()) as first:
                with pytest.raises(SeatsExhausted) as refused:
                    async with world.service.attached(Conditions()):
                        pass
                assert refused.value.retry_s > 0
                first.drain(0.0)
                await world.tick()
            await settle()
            async with world.service.attached(Conditions()) as second:
                await world.talk([5, 6], second)
                assert said(waiting(second)) == [(0, None), (1, 5)]
            assert world.service.stats()["refused_seats"] == 1

    asyncio.run(run())


def test_a_client_that_vanished_keeps_its_seat_for_a_while_and_no_longer() -> None:
    async def run() -> None:
        config = ServingConfig(grace_s=1.0)
        async with running(World(num_seats=1, config=config)) as world:
            async with world.service.attached(Conditions()):
                pass
            await world.tick(20)
            assert world.service.stats()["seats_used"] == 1
            await world.tick(10)
            assert world.service.stats()["seats_used"] == 0
            assert [len(fleet.replicas[0].held) for fleet in world.fleets] == [0, 0, 0]
            assert not world.snapshots.kept

    asyncio.run(run())


def test_a_session_that_runs_freely_is_answered_without_a_microphone() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk([7], session)
            session.free_running = True
            await world.tick(2)
            session.free_running = False
            await world.tick(2)
            assert said(waiting(session)) == [(0, None), (1, 7), (2, 0)]
            assert session.next_frame == 3

    asyncio.run(run())


def test_a_marker_comes_back_behind_the_answer_to_all_that_was_heard_before_it() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            session.hear(frame(1) * 2, 0.0)
            session.mark("here")
            session.hear(frame(1), 0.0)
            await world.tick(2)
            kinds = [e for e in waiting(session) if not isinstance(e, Report)]
            assert [type(event).__name__ for event in kinds] == ["ReplyFrame"] * 2 + ["Marked", "ReplyFrame"]
            assert kinds[2] == Marked("here", 2)

    asyncio.run(run())


def test_a_voice_can_be_changed_in_mid_session() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            session.adjust(Conditions(voice="ravi"))
            await world.tick(2)
            for fleet in world.fleets:
                (stage,) = fleet.replicas[0].bundles.values()
                assert [asked.voice for asked in stage.open_seats.values()] == ["ravi"]  # type: ignore[attr-defined]

    asyncio.run(run())


def test_leases_are_renewed_while_nobody_speaks() -> None:
    class Counting(FakeReplica):
        renewed = 0

        async def renew(self, leases: object) -> object:  # type: ignore[override]
            self.renewed += 1
            return await super().renew(leases)  # type: ignore[arg-type]

    async def run() -> None:
        world = World(config=ServingConfig(lease_s=4.0))
        world.fleets[0].replicas = [counting := Counting("encode", 4)]
        async with running(world), world.service.attached(Conditions()):
            await world.tick(75)  # three seconds
            assert counting.renewed == 3

    asyncio.run(run())


def test_stages_of_different_codecs_are_refused_at_the_start() -> None:
    class Odd(FakeReplica):
        async def card(self, bundle: str) -> object:  # type: ignore[override]
            return (await super().card(bundle)).model_copy(update={"codec": "another"})

    async def run() -> None:
        world = World()
        world.fleets[1].replicas = [Odd("converse", 4)]
        with pytest.raises(ServiceError, match="codec"):
            await world.service.start()
        await world.service.stop()

    asyncio.run(run())


def test_fleets_are_each_told_what_was_refused_since_they_last_asked() -> None:
    async def run() -> None:
        async with running(World(num_seats=1)) as world, world.service.attached(Conditions()):
            with pytest.raises(SeatsExhausted):
                async with world.service.attached(Conditions()):
                    pass
            assert [fleet.pressure().refused for fleet in world.fleets] == [1, 1, 1]
            assert [fleet.pressure().refused for fleet in world.fleets] == [0, 0, 0]

    asyncio.run(run())
