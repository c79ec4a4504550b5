"""The load generator against the real application, in real time, over stand-in stages."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from paluku.client.load import Crowd, crowd, named_sound, spoken_sound
from paluku.client.talker import LoadConfig, Sound
from paluku.client.tally import Silence, Tally
from paluku.streaming.clock import MonotonicClock
from tests.fakes.stages import FRAME_SAMPLES
from tests.wire.server import RATE_HZ, Server, serving, until

FRAME_S = 0.04
NAMED = named_sound(FRAME_SAMPLES)


def config(**how: object) -> LoadConfig:
    return LoadConfig.model_validate(
        {"sample_rate_hz": RATE_HZ, "named": True, "turn_taking": "none", "aligned": False, **how}
    )


def at_a_server(
    act: Callable[[Crowd, Server], Awaitable[None]],
    how: LoadConfig | None = None,
    sound: Sound = NAMED,
    seats: int = 4,
) -> Crowd:
    async def script() -> Crowd:
        async with serving(Server(num_seats=seats, clock=MonotonicClock())) as server:
            async with crowd(server.url, how or config(), sound) as people:
                await act(people, server)
            await until(lambda: server.service.stats()["sessions"] == 0)
            return people

    return asyncio.run(script())


async def heard(people: Crowd, frames: int) -> None:
    await until(lambda: all(talker.next_reply >= frames for talker in people.talkers))


@pytest.mark.parametrize("how", [{"chunk_ms": 20}, {"chunk_ms": 40}, {"aligned": True}])
def test_every_frame_is_answered_in_its_own_session(how: dict[str, object]) -> None:
    async def act(people: Crowd, _: Server) -> None:
        assert await people.gather(3) == 3
        await heard(people, 15)
        await people.finish()

    counts = at_a_server(act, config(**how)).tally.counts
    assert counts["sessions_ended"] == counts["sessions_seated"] == 3
    assert counts["replies"] >= 3 * 15
    assert not any(counts[name] for name in ("lost_frames", "foreign_frames", "misplaced_frames"))


def test_sound_of_another_session_and_of_another_time_is_found() -> None:
    """The same wrong names come back as from a server that mixes up its seats."""

    def lying(session: int, frame: int) -> bytes:
        return NAMED(session + (session == 1), frame + (session == 2))

    async def act(people: Crowd, _: Server) -> None:
        await people.gather(3)
        await heard(people, 5)

    counts = at_a_server(act, sound=lying).tally.counts
    # The third tells no lie; each of the others is found out at every reply but its first, which is silent.
    assert counts["foreign_frames"] >= 4
    assert counts["misplaced_frames"] >= 4


def test_a_session_whose_socket_is_lost_goes_on_and_nothing_is_lost() -> None:
    async def act(people: Crowd, _: Server) -> None:
        await people.gather(2)
        await heard(people, 5)
        for talker in people.talkers:
            talker.drop()
        await heard(people, 20)
        await people.finish()

    people = at_a_server(act)
    counts = people.tally.counts
    assert counts["resumes"] == counts["sessions_ended"] == 2
    assert counts["sessions_lost"] == counts["lost_frames"] == counts["misplaced_frames"] == 0


def test_a_full_server_refuses_and_that_is_no_loss() -> None:
    async def act(people: Crowd, _: Server) -> None:
        assert await people.gather(3) == 1
        await people.finish()

    people = at_a_server(act, seats=1)
    assert people.tally.counts["refused"] == 2
    assert people.tally.counts["sessions_lost"] == 0
    refused = people.tally.report(FRAME_S).refused_in
    assert refused is not None
    assert refused.count == 2


def test_a_lost_server_is_a_lost_session_and_says_how() -> None:
    async def script() -> Crowd:
        async with crowd("ws://127.0.0.1:9/ws", config(), NAMED) as people:
            assert await people.join() is None
            return people

    tally = asyncio.run(script()).tally
    assert tally.counts["sessions_lost"] == 1
    assert tally.endings == {"0 ConnectionRefusedError": 1}


def test_sessions_come_and_go() -> None:
    async def act(people: Crowd, server: Server) -> None:
        await people.gather(2)
        await people.come_and_go(1.0, stay_s=(0.1, 0.3))
        assert server.service.stats()["sessions"] == 2
        await people.finish()

    counts = at_a_server(act).tally.counts
    assert counts["sessions_seated"] == counts["sessions_ended"] > 4
    assert counts["lost_frames"] == counts["foreign_frames"] == 0


def test_the_longest_silence_is_looked_for_since_the_mark() -> None:
    async def act(people: Crowd, server: Server) -> None:
        await people.gather(1)
        await heard(people, 3)
        people.mark()
        for stage in server.stages:
            stage.gate.clear()
        await asyncio.sleep(0.3)
        for stage in server.stages:
            stage.gate.set()
        before = people.talkers[0].next_reply
        await heard(people, before + 5)
        assert people.gaps_s()[0] >= 0.3
        people.mark()
        await heard(people, before + 8)
        assert 0 < people.gaps_s()[0] < 0.3

    at_a_server(act)


def test_a_wave_is_said_in_whole_frames_again_and_again() -> None:
    wave = np.arange(3 * 4 + 1, dtype=np.int16)
    sound = spoken_sound(wave, 4)
    said = [np.frombuffer(sound(1, frame), "<i2").tolist() for frame in range(4)]
    assert sorted(said[:3]) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert said[3] == said[0]


def test_a_tally_by_hand() -> None:
    tally = Tally()
    tally.replied(9.0, 9.0, FRAME_S)  # before measuring: counted, not measured
    tally.measure()
    for spent_s in (0.010, 0.020, 0.030, 0.081):  # the last is over two frames: late
        tally.replied(spent_s, spent_s + 0.04, FRAME_S)
    tally.said(0.002)
    report = tally.report(FRAME_S)
    assert (report.frames, report.late_share, report.counts["replies"]) == (4, 0.25, 5)
    assert report.send_reply is not None
    assert report.send_reply.mean_ms == pytest.approx(35.25)
    # A frame's instants lie 20 ms before it is full, on average; its reply comes 40 ms later than its own.
    assert report.reaction is not None
    assert report.reaction.mean_ms == pytest.approx(20 + 40 + 35.25)
    assert report.own_late is not None
    assert report.own_late.mean_ms == pytest.approx(2.0)


def test_silence_over_sessions() -> None:
    assert Silence.of([0.04, 0.05, 0.9]).model_dump() == {"p50": 50.0, "max": 900.0}
    assert Silence.of([]).model_dump() == {"p50": 0.0, "max": 0.0}
