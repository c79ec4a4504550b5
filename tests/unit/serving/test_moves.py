"""Sessions that have to go elsewhere: what the user hears of it is nothing, or a short silence."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import pytest

from paluku.errors import SeatsExhausted
from paluku.protocol.messages import CloseCode
from paluku.serving.config import ServingConfig
from paluku.serving.events import Ending, Interrupted, Report
from paluku.serving.ports import StageLostError
from paluku.serving.service import Resume, UnknownTokenError
from paluku.streaming.ports import FIRST_CODE, Conditions
from tests.fakes.stages import GRAPH, FakeSnapshots, fake_fleets, frame
from tests.fakes.world import TICK_S, World, running, said, settle, waiting

FUSED = ("fused",)


def echo(codes: list[int]) -> list[tuple[int, int | None]]:
    """What an undisturbed session says to these frames."""
    return [(0, None), *enumerate(codes[:-1], 1)]


@pytest.mark.parametrize("kinds", [GRAPH, FUSED])
@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("failing", ["step", "all"])
def test_a_lost_replica_costs_its_sessions_nothing_but_time(
    kinds: tuple[str, ...], position: int, failing: str
) -> None:
    async def run() -> None:
        async with running(World(replicas=2, kinds=kinds)) as world:
            async with (
                world.service.attached(Conditions(seed=1)) as one,
                world.service.attached(Conditions(seed=2)) as other,
            ):
                await world.talk([1, 2, 3], one, other)
                assert one.seating is not None
                lost = one.seating.lane.replicas[position % len(kinds)]
                lost.failing.add(failing)  # type: ignore[union-attr]
                await world.talk([4, 5, 6, 7], one, other)
                await world.tick(5)
                for session in (one, other):
                    assert session.ending is None
                    assert said(waiting(session)) == echo([1, 2, 3, 4, 5, 6, 7])
                    assert session.seating is not None
                    assert lost.replica_id not in session.seating.lane.key
            assert world.service.stats()["moves"]["crash"] >= 1

    asyncio.run(run())


def test_without_another_replica_a_session_waits_and_ends_when_none_comes_back() -> None:
    async def run() -> None:
        async with running(World(config=ServingConfig(recovery_s=1.0))) as world:
            async with world.service.attached(Conditions()) as session:
                await world.talk([1], session)
                world.fleets[1].replicas[0].failing.add("all")
                await world.talk([2], session)
                await world.tick(5)
                assert session.ending is None
                await world.tick(40)
                assert session.ending is not None
                assert session.ending.close_code is CloseCode.STAGE_LOST
            await settle()
            assert [len(world.fleets[at].replicas[0].held) for at in (0, 2)] == [0, 0]

    asyncio.run(run())


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_slow_replica_is_given_up_only_where_there_is_another(replicas: int) -> None:
    async def run() -> None:
        config = ServingConfig(step_timeout_s=0.01, lone_step_timeout_s=60.0)
        async with (
            running(World(replicas=replicas, config=config)) as world,
            world.service.attached(Conditions()) as session,
        ):
            await world.talk([1], session)
            slow = world.fleets[0].replicas[0]
            slow.gate.clear()
            session.hear(frame(2), world.clock.now())
            await world.tick()
            await asyncio.sleep(0.05)  # timeouts are the event loop's
            await world.tick(3)
            assert world.service.stats()["moves"]["crash"] == replicas - 1
            slow.gate.set()
            await world.talk([3, 4, 5], session)
            assert said(waiting(session)) == echo([1, 2, 3, 4, 5])

    asyncio.run(run())


def test_a_replacement_that_comes_in_time_takes_the_sessions_up() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk([1, 2], session)
            dead = world.fleets[1].replicas[0]
            dead.failing.add("all")
            await world.talk([3, 4], session)
            await world.tick(20)
            fresh = fake_fleets(4)[1].replicas[0]
            fresh.replica_id = "converse-new"
            world.fleets[1].replicas.append(fresh)
            await world.tick(10)
            await world.talk([5], session)
            assert said(waiting(session)) == echo([1, 2, 3, 4, 5])

    asyncio.run(run())


@pytest.mark.parametrize("kinds", [GRAPH, FUSED])
@pytest.mark.parametrize("position", range(3))
def test_a_replica_that_leaves_is_left_without_a_gap(kinds: tuple[str, ...], position: int) -> None:
    async def run() -> None:
        async with running(World(replicas=2, kinds=kinds)) as world:
            async with world.service.attached(Conditions()) as session:
                await world.talk([1, 2, 3], session)
                world.prime_slowly(ticks=3.5)
                assert session.seating is not None
                before = session.seating
                leaving = before.lane.key[position % len(kinds)]
                world.fleets[position % len(kinds)].leaving.add(leaving)
                for code in range(4, 12):
                    await world.talk([code], session)  # an answer in every tick
                    assert session.frames_out == code
                assert said(waiting(session)) == echo(list(range(1, 12)))
                after = session.seating
                assert leaving not in after.lane.key
                # Where nothing changed, the seat is the same.
                staying = set(range(len(kinds))) - {position % len(kinds)}
                assert all(after.leases[at] == before.leases[at] for at in staying)
                assert session.frames_out == 11
                session.end_well()
            stats = world.service.stats()
            assert (stats["moves"]["drain"], stats["moves"]["crash"], stats["frames_late"]) == (1, 0, 0)
            await settle()
            assert all(not replica.held for fleet in world.fleets for replica in fleet.replicas)

    asyncio.run(run())


@pytest.mark.parametrize("phase", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_move_from_working_seats_falls_between_two_ticks(phase: float) -> None:
    async def run() -> None:
        async with (
            running(World(replicas=2)) as world,
            world.service.attached(Conditions()) as session,
        ):
            world.step_slowly(ticks=0.1)  # through three stages: a frame is back after 0.3 ticks
            world.prime_slowly(ticks=phase)  # so that it is ready to change seats at any phase
            assert session.seating is not None
            leaving = session.seating.lane.key[1]
            came_s: list[float] = []
            for number in range(30):
                session.hear(frame(number), world.clock.now())
                if number == 10:
                    world.fleets[1].leaving.add(leaving)
                for _ in range(40):
                    before = session.frames_out
                    await world.pass_slowly(1 / 40)
                    came_s += [world.clock.now()] * (session.frames_out - before)
            assert session.seating.lane.key[1] != leaving
            apart = [later - earlier for earlier, later in itertools.pairwise(came_s)]
            assert len(came_s) >= 29
            assert max(apart) < 1.2 * TICK_S

    asyncio.run(run())


def test_a_full_house_can_be_moved_too() -> None:
    async def run() -> None:
        async with (
            running(World(num_seats=2, replicas=2)) as world,
            world.service.attached(Conditions()) as one,
            world.service.attached(Conditions()) as other,
        ):
            await world.talk([1, 2], one, other)
            assert one.seating is not None
            leaving = one.seating.lane.key[1]
            world.fleets[1].leaving.add(leaving)
            await world.talk([3, 4, 5, 6], one, other)
            assert said(waiting(one)) == said(waiting(other)) == echo([1, 2, 3, 4, 5, 6])
            assert leaving not in one.seating.lane.key

    asyncio.run(run())


def test_a_newer_model_takes_over_live_sessions_once_every_stage_holds_it() -> None:
    async def run() -> None:
        async with running(World(num_seats=1)) as world:
            async with world.service.attached(Conditions()) as session:
                await world.talk([1, 2], session)
                for fleet in world.fleets[:2]:
                    fleet.replicas[0].load("newer")
                await world.talk([3, 4], session)
                assert session.seating is not None
                assert session.seating.card.bundle == "fake"
                world.fleets[2].replicas[0].load("newer")
                await world.talk([5, 6, 7, 8, 9], session)
                assert session.seating.card.bundle == "newer"
                assert said(waiting(session)) == echo(list(range(1, 10)))
                assert session.frames_out == 9
                session.end_well()
            await settle()
            assert all(not fleet.replicas[0].held for fleet in world.fleets)
            assert world.service.card.bundle == "newer"

    asyncio.run(run())


def test_a_client_resumes_on_the_same_ingress_where_it_stopped_hearing() -> None:
    async def run() -> None:
        async with running(World()) as world:
            async with world.service.attached(Conditions(voice="ravi")) as session:
                await world.talk([1, 2, 3, 4], session)
                heard = said(waiting(session))[:2]  # replies 2 and 3 were lost with the socket
            async with world.service.attached(Conditions(), Resume(session.token, 2)) as again:
                assert again.session_id == session.session_id
                assert again.conditions.voice == "ravi"
                assert again.next_frame == 2
                await world.talk([3, 4, 5], again)
                assert heard + said(waiting(again)) == echo([1, 2, 3, 4, 5])
            assert world.service.stats()["resumes"] == 1

    asyncio.run(run())


def test_a_session_outlives_its_ingress_and_nothing_is_said_twice() -> None:
    async def run() -> None:
        fleets, snapshots = fake_fleets(4), FakeSnapshots()
        async with running(World(fleets=fleets, snapshots=snapshots)) as first:  # noqa: SIM117 (one by one)
            async with first.service.attached(Conditions()) as session:
                await first.talk(list(range(1, 11)), session)
                heard = said(waiting(session))
                # The process dies: what was not copied since the last round is not known elsewhere.
                async with running(World(fleets=fleets, snapshots=snapshots)) as second:
                    resume = Resume(session.token, len(heard))
                    async with second.service.attached(Conditions(), resume) as again:
                        assert 4 <= again.next_frame <= 10
                        await second.talk(list(range(again.next_frame + 1, 14)), again)
                        assert heard + said(waiting(again)) == echo(list(range(1, 14)))
                        # The old ingress was not dead after all: it learns that it has lost the session.
                        await first.tick(10)
                        assert session.ending is not None
                        assert session.ending.code == "resumed"
                        await second.talk([14], again)
                        assert said(waiting(again)) == [(13, 13)]

    asyncio.run(run())


def test_a_client_that_finds_no_seat_elsewhere_comes_back_and_stays() -> None:
    async def run() -> None:
        snapshots = FakeSnapshots()
        async with (
            running(World(snapshots=snapshots)) as first,
            running(World(num_seats=1, snapshots=snapshots)) as second,
            second.service.attached(Conditions()),
        ):
            async with first.service.attached(Conditions()) as session:
                await first.talk(list(range(1, 11)), session)
            resume = Resume(session.token, 10)
            with pytest.raises(SeatsExhausted):
                async with second.service.attached(Conditions(), resume):
                    pass
            async with first.service.attached(Conditions(), resume) as again:
                for code in range(11, 60):  # the memory is copied several times
                    await first.talk([code], again)
                assert again.ending is None
                assert again.frames_out == 49

    asyncio.run(run())


def test_a_session_that_went_on_elsewhere_is_resumed_from_there() -> None:
    async def run() -> None:
        fleets, snapshots = fake_fleets(4), FakeSnapshots()
        async with (  # noqa: SIM117 (the services, then the sessions)
            running(World(fleets=fleets, snapshots=snapshots)) as first,
            running(World(fleets=fleets, snapshots=snapshots)) as second,
        ):
            async with first.service.attached(Conditions()) as session:
                await first.talk(list(range(1, 31)), session)
                # The old connection hangs: here nobody knows that the client has gone.
                async with second.service.attached(Conditions(), Resume(session.token, 30)) as again:
                    snapshots.is_failing = True  # the first ingress cannot be told
                    await first.tick(1)
                    snapshots.is_failing = False
                    await second.talk(list(range(again.next_frame + 1, 61)), again)
                lived = snapshots.kept[again.identity.key][1].end
                async with first.service.attached(Conditions(), Resume(session.token, lived)) as last:
                    assert last.next_frame >= lived

    asyncio.run(run())


def test_an_unknown_token_is_refused() -> None:
    async def run() -> None:
        async with running(World()) as world:
            with pytest.raises(UnknownTokenError, match="begin a new one"):
                async with world.service.attached(Conditions(), Resume("no such token", 0)):
                    pass

    asyncio.run(run())


def test_without_a_memory_elsewhere_sessions_live_on() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            world.snapshots.is_failing = True
            await world.talk(list(range(1, 20)), session)
            world.snapshots.is_failing = False
            await world.tick(10)
            (_, memory, _) = world.snapshots.kept[session.identity.key]
            assert (memory.start, memory.end) == (0, 19)
            assert said(waiting(session)) == echo(list(range(1, 20)))

    asyncio.run(run())


def test_a_memory_that_was_lost_elsewhere_is_copied_anew() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk(list(range(1, 20)), session)
            world.snapshots.kept.clear()  # its process died, and another has taken its place
            await world.talk(list(range(20, 40)), session)
            (_, memory, _) = world.snapshots.kept[session.identity.key]
            assert memory.start == 0
            assert memory.end > 25

    asyncio.run(run())


@pytest.mark.parametrize("kinds", [GRAPH, FUSED])
def test_a_client_resumes_in_a_full_house(kinds: tuple[str, ...]) -> None:
    async def run() -> None:
        async with running(World(num_seats=1, kinds=kinds)) as world:
            async with world.service.attached(Conditions()) as session:
                await world.talk([1, 2, 3], session)
                heard = said(waiting(session))
                # The old socket is not known to be dead yet.
                async with world.service.attached(Conditions(), Resume(session.token, 3)) as again:
                    await world.talk([4, 5], again)
                    assert heard + said(waiting(again)) == echo([1, 2, 3, 4, 5])
                    assert session.ending is not None
                    again.end_well()
            await settle()
            assert not any(replica.held for fleet in world.fleets for replica in fleet.replicas)

    asyncio.run(run())


def test_an_interrupted_reply_is_forgotten_from_where_it_was_heard() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk([1, 2, 3, 4], session)
            session.played(2)
            session.interrupt()
            events = [event for event in waiting(session) if not isinstance(event, Report)]
            assert events[0] == Interrupted(2)
            assert said(events) == [(0, None), (1, None), (2, None), (3, None)]  # numbered, and silent
            rows = session.memory.history().reply
            await world.talk([5, 6, 7], session)
            assert [row[FIRST_CODE] for row in rows] == [-1, 1, 2, 3]
            assert said(waiting(session)) == [(4, None), (5, None), (6, None)]  # a short pause
            await world.talk([8, 9], session)
            kept = session.memory.history().reply[:, FIRST_CODE]
            assert kept[:7].tolist() == [-1, 1, 0, 0, 0, 0, 0]  # silence where it was not heard
            assert said(waiting(session)) == [(7, 7), (8, 8)]  # and it speaks again
            assert world.service.stats()["moves"]["barge_in"] == 1

    asyncio.run(run())


def test_a_reply_that_was_sent_whole_is_silenced_in_the_memory_too() -> None:
    # Nothing waits and nothing is under way: a model that saw no silence of its own would talk on.
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk([1, 2, 3], session)
            waiting(session)
            session.interrupt()
            await world.talk([4, 5, 6, 7, 8, 9], session)
            rows = [row[FIRST_CODE] for row in session.memory.history().reply]
            assert rows == [-1, 1, 2, 0, 0, 0, 0, 0, 8]
            assert world.service.stats()["moves"]["barge_in"] == 1

    asyncio.run(run())


def test_forgetting_leaves_nothing_and_the_session_goes_on() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk([1, 2, 3], session)
            session.forget()
            await world.tick(2)
            waiting(session)
            await world.talk([4, 5], session)
            assert [number for number, _ in said(waiting(session))] == [3, 4]
            assert (session.memory.start, session.memory.end) == (3, 5)
            assert not session.memory.turns

    asyncio.run(run())


def test_sound_that_waits_for_a_seat_is_not_too_fast() -> None:
    async def run() -> None:
        config = ServingConfig(max_waiting_frames=4, recovery_s=1.5)
        async with running(World(config=config)) as world, world.service.attached(Conditions()) as session:
            world.fleets[0].replicas[0].failing.add("all")
            await world.talk([1] * 12, session)
            assert session.ending is None
            session.hear(frame(1) * 30, world.clock.now())
            assert session.ending is not None
            assert session.ending.close_code is CloseCode.STAGE_LOST

    asyncio.run(run())


def test_what_waited_for_a_seat_may_be_caught_up_in_peace() -> None:
    # Three seconds without a Converse, the user speaking on: the sound of a minute's worth of patience.
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk([1, 2], session)
            world.fleets[1].replicas[0].failing.add("all")
            await world.talk(list(range(3, 80)), session)
            fresh = fake_fleets(4)[1].replicas[0]
            fresh.replica_id = "converse-new"
            world.fleets[1].replicas.append(fresh)
            heard = []
            for code in range(80, 200):
                await world.talk([code], session)
                heard += said(waiting(session))
            assert session.ending is None
            assert heard == echo(list(range(1, 200)))

    asyncio.run(run())


@pytest.mark.parametrize("kinds", [GRAPH, FUSED])
@pytest.mark.parametrize("what", ["forget", "drain", "reload"])
@pytest.mark.parametrize("leavers", [1, 2])
def test_who_leaves_in_the_middle_of_a_move_takes_no_one_along(
    kinds: tuple[str, ...], what: str, leavers: int
) -> None:
    async def run() -> None:
        async with running(World(replicas=2, kinds=kinds)) as world, AsyncExitStack() as stack:
            sessions = [
                await stack.enter_async_context(world.service.attached(Conditions())) for _ in range(4)
            ]
            await world.talk([1, 2, 3], *sessions)
            world.prime_slowly(ticks=3.5)
            if what == "drain":
                world.fleets[0].leaving.add(world.fleets[0].replicas[0].replica_id)
            for session in sessions:
                if what == "forget":
                    session.forget()
            for fleet in world.fleets:
                for replica in fleet.replicas:
                    if what == "reload":
                        replica.load("newer")
            await world.talk([4, 5], *sessions)
            for session in sessions[:leavers]:
                session.cut_off(Ending.of(CloseCode.GOING_AWAY, "client_left", "gone"))
                world.service._left(session)
            stay = sessions[leavers:]
            await world.talk(list(range(6, 30)), *stay)
            await world.tick(25)
            for session in stay:
                assert session.ending is None
                assert session.frames_out == 29
                waiting(session)
                session.end_well()
            await world.tick(10)
        await settle()
        assert not any(replica.held for fleet in world.fleets for replica in fleet.replicas)
        assert not +world.service._seats._ours

    asyncio.run(run())


def test_a_client_that_asks_twice_has_one_session() -> None:
    async def run() -> None:
        async with running(World()) as world:
            async with world.service.attached(Conditions()) as session:
                await world.talk([1, 2, 3, 4], session)
            world.prime_slowly(ticks=2)
            asked = [world.service.attached(Conditions(), Resume(session.token, 2)) for _ in range(3)]
            entering = [asyncio.ensure_future(one.__aenter__()) for one in asked]
            await settle()
            await world.tick(12)
            resumed = [await one for one in entering]
            assert [one.ending is None for one in resumed] == [False, False, True]
            await world.talk([3, 4, 5], resumed[-1])
            assert resumed[-1].frames_out == 3
            resumed[-1].end_well()
            waiting(resumed[-1])
            for one in asked:
                await one.__aexit__(None, None, None)
            await world.tick(10)
            assert not any(replica.held for fleet in world.fleets for replica in fleet.replicas)

    asyncio.run(run())


def test_a_resume_that_finds_no_seat_may_be_asked_for_again() -> None:
    async def run() -> None:
        async with running(World(num_seats=1)) as world:
            async with world.service.attached(Conditions()) as session:
                await world.talk([1, 2, 3], session)
            world.snapshots.is_failing = True
            world.fleets[1].replicas[0].failing.add("open")
            with pytest.raises((SeatsExhausted, StageLostError)):
                async with world.service.attached(Conditions(), Resume(session.token, 3)):
                    pass
            world.fleets[1].replicas[0].failing.clear()
            world.fleets[1].gone.clear()
            async with world.service.attached(Conditions(), Resume(session.token, 3)) as again:
                await world.talk([4, 5], again)
                assert said(waiting(again)) == [(3, 3), (4, 4)]

    asyncio.run(run())


def test_a_voice_asked_for_during_a_move_is_had_after_it() -> None:
    async def run() -> None:
        async with running(World()) as world, world.service.attached(Conditions()) as session:
            await world.talk([1, 2], session)
            world.prime_slowly(ticks=3)
            session.forget()
            await world.tick(2)
            session.adjust(Conditions(voice="ravi"))
            await world.tick(8)
            for fleet in world.fleets:
                (stage,) = fleet.replicas[0].bundles.values()
                assert [asked.voice for asked in stage.open_seats.values()] == ["ravi"]  # type: ignore[attr-defined]

    asyncio.run(run())


def test_an_end_whose_answer_was_never_sent_can_be_resumed() -> None:
    async def run() -> None:
        async with running(World()) as world:
            async with world.service.attached(Conditions()) as session:
                await world.talk([1, 2], session)
                waiting(session)
                session.hear(frame(3), world.clock.now())
                session.drain(world.clock.now())
                await world.tick(3)
                assert session.ending is not None  # and the socket dies before the last reply is sent
            async with world.service.attached(Conditions(), Resume(session.token, 2)) as again:
                again.hear(frame(3), world.clock.now())
                again.drain(world.clock.now())
                await world.tick(3)
                assert said(waiting(again)) == [(2, 2)]
                assert again.ending is not None

    asyncio.run(run())
