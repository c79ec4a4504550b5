"""A session that outlives its socket: raw sockets and a standing clock, then our client in real time."""

import asyncio
from collections.abc import Mapping

import numpy as np
import pytest

from paluku.client.session import Conversation, connect
from paluku.errors import ServiceError
from paluku.protocol.messages import Hello, Ready, ReplyAudio
from paluku.serving.app import build_app
from paluku.serving.gate import Gate
from paluku.serving.ports import Pushed
from paluku.serving.session import hash_token
from paluku.streaming.clock import MonotonicClock
from paluku.streaming.memory import Update
from tests.fakes.stages import FRAME_SAMPLES, frame
from tests.wire.server import RATE_HZ, RawClient, Server, client, serving, until
from tests.wire.test_client import ramps
from tests.wire.test_native_talk import answered, codes, send_hello


async def vanish(server: Server, raw: RawClient) -> None:
    """The network goes away under a client; the server notices."""
    raw.connection.transport.abort()
    await until(lambda: server.service.endings["client_lost"])


def numbered(replies: list[ReplyAudio]) -> list[tuple[int, int]]:
    return [(reply.seq, codes(reply)[0]) for reply in replies]


@pytest.mark.parametrize("next_reply", [1, 3, 4])
def test_a_session_goes_on_where_the_client_stopped_hearing(next_reply: int) -> None:
    async def run() -> None:
        async with serving(Server(num_seats=2)) as server:
            async with client(server) as raw:
                first = await raw.hello()
                for number in range(4):
                    await raw.say(frame(number + 1))
                await answered(server, raw, 4)
                await vanish(server, raw)
            async with client(server) as raw:
                resume = {"token": first.resume_token, "next_reply": next_reply}
                ready = await raw.hello(resume=resume)
                assert ready.session_id == first.session_id
                assert ready.next_reply == next_reply
                assert ready.next_frame <= next_reply
                for number in range(ready.next_frame, 6):
                    await raw.say(frame(number + 1))
                # Each frame is the one before it, as if nothing had happened, and none comes twice.
                expected = [(number, number) for number in range(next_reply, 6)]
                assert numbered(await answered(server, raw, 6 - next_reply)) == expected

    asyncio.run(asyncio.wait_for(run(), 60))


def test_with_another_rate_a_frame_warms_the_filter_up() -> None:
    """The resumed session hears, to the bit, what it would have heard over one socket."""
    sound = np.random.default_rng(0).integers(-9_000, 9_000, (6, 960)).astype("<i2")

    async def heard(lose_after: int | None) -> bytes:
        async with serving(Server(num_seats=2)) as server:
            async with client(server) as raw:
                first = await raw.hello(sample_rate_hz=24_000)
                for row in sound[:lose_after]:
                    await raw.say(row.tobytes())
                await answered(server, raw, lose_after or len(sound))
                if lose_after is None:
                    return _memory_of(server)
                await vanish(server, raw)
            async with client(server) as raw:
                resume = {"token": first.resume_token, "next_reply": lose_after}
                ready = await raw.hello(sample_rate_hz=24_000, resume=resume)
                assert ready.next_frame == lose_after - 1
                for row in sound[ready.next_frame :]:
                    await raw.say(row.tobytes())
                await answered(server, raw, len(sound) - lose_after)
                return _memory_of(server)

    async def run() -> None:
        assert await heard(lose_after=3) == await heard(lose_after=None)

    asyncio.run(asyncio.wait_for(run(), 60))


def _memory_of(server: Server) -> bytes:
    session = next(iter(server.service._sessions.values()))
    return session.memory.history().user_codes.tobytes()


def test_a_client_that_says_goodbye_frees_its_seat_at_once() -> None:
    async def run() -> None:
        async with serving(Server(num_seats=2)) as server:
            async with client(server) as raw:
                ready = await raw.hello()
            await until(lambda: server.service.stats()["seats_used"] == 0)
            async with client(server) as raw:
                await send_hello(raw, resume={"token": ready.resume_token, "next_reply": 0})
                assert (await raw.to_end())[1:] == (1008, "unknown_token")

    asyncio.run(run())


def test_a_client_is_told_a_token_only_when_other_ingresses_know_it() -> None:
    async def run() -> None:
        async with serving(Server()) as server, client(server) as raw:
            ready = await raw.hello()
            claimed = await server.snapshots.claim("another", hash_token(ready.resume_token))
            assert claimed is not None
            assert claimed.facts["session_id"] == ready.session_id

    asyncio.run(run())


def test_a_session_that_is_gone_before_its_client_is_told_frees_its_place() -> None:
    """Another ingress has it already, says the memory."""

    async def elsewhere(owner: str, updates: Mapping[str, Update]) -> Pushed:
        return Pushed(tuple(updates), ())

    async def run() -> None:
        server = Server()
        gate = Gate(server.service.config, server.clock, {})
        server.app = build_app(server.service, gate)
        async with serving(server):
            server.snapshots.push = elsewhere
            async with client(server) as raw:
                await send_hello(raw)
                assert (await raw.to_end())[1:] == (1001, "resumed")
            await until(lambda: not gate._held)
            assert server.service.stats()["seats_used"] == 0

    asyncio.run(asyncio.wait_for(run(), 60))


def test_what_is_pushed_late_takes_nothing_back() -> None:
    """The first copy is slow; those after it wait for it."""
    pushed: list[int] = []

    async def run() -> None:
        async with serving(Server()) as server, client(server) as raw:
            kept, released = server.snapshots.push, asyncio.Event()

            async def slow(owner: str, updates: Mapping[str, Update]) -> Pushed:
                pushed.append(sum(update.history.end for update in updates.values()))
                await released.wait()
                return await kept(owner, updates)

            server.snapshots.push = slow
            ready = await raw.hello()
            for number in range(8):
                await raw.say(frame(number + 1))
            await answered(server, raw, 8)
            for _ in range(30):
                await server.tick()
            assert pushed == [0]
            released.set()
            key = hash_token(ready.resume_token)
            for _ in range(100):
                await server.tick()
                if key in server.snapshots.kept and server.snapshots.kept[key][1].end == 8:
                    break
            assert server.snapshots.kept[key][1].end == 8

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_memory_that_never_answers_holds_no_session_up() -> None:
    async def never(owner: str, updates: Mapping[str, Update]) -> Pushed:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        async with serving(Server()) as server, client(server) as raw:
            server.snapshots.push = never
            await raw.hello()
            await raw.say(frame(1))
            assert numbered(await answered(server, raw, 1)) == [(0, 0)]

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_stranger_cannot_guess_his_way_in() -> None:
    async def run() -> None:
        async with serving(Server()) as server, client(server) as raw:
            await send_hello(raw, resume={"token": "guess", "next_reply": 0})
            said, code, reason = await raw.to_end()
            assert (code, reason) == (1008, "unknown_token")
            assert "guess" not in str(said)

    asyncio.run(run())


def test_a_resumed_session_leaves_its_old_socket() -> None:
    async def run() -> None:
        async with serving(Server(num_seats=2)) as server, client(server) as old:
            first = await old.hello()
            async with client(server) as new:
                await new.hello(resume={"token": first.resume_token, "next_reply": 0})
                _, code, reason = await old.to_end()
                assert (code, reason) == (1001, "resumed")

    asyncio.run(run())


async def lose_while_speaking(talk: Conversation, frames: int, times: int) -> None:
    speaking = asyncio.create_task(talk.speak(ramps(frames)))
    for number in range(times):
        await until(lambda n=number: talk.record.next_reply >= 5 * (n + 1) or speaking.done())
        talk.drop()
        await until(lambda n=number: talk.record.resumes == n + 1 or speaking.done())
    await speaking


def test_our_client_resumes_by_itself_and_hears_everything_once() -> None:
    async def run() -> Conversation:
        server = Server(clock=MonotonicClock())
        async with serving(server), connect(server.url, Hello(sample_rate_hz=RATE_HZ)) as talk:
            await lose_while_speaking(talk, frames=20, times=2)
            return talk

    talk = asyncio.run(asyncio.wait_for(run(), 60))
    assert talk.reply.reshape(-1, FRAME_SAMPLES)[:, 0].tolist() == [0, *range(1000, 20_000, 1000)]
    report = talk.report
    assert (report.frames_in, report.frames_out, report.lost_frames, report.resumes) == (20, 20, 0, 2)
    assert len(talk.record.silences_ms) == 2
    assert report.longest_silence_ms >= max(talk.record.silences_ms) - 0.01


def test_who_does_not_want_to_resume_is_told() -> None:
    async def run() -> None:
        server = Server(clock=MonotonicClock())
        async with serving(server), connect(server.url, Hello(sample_rate_hz=RATE_HZ), resumes=False) as talk:
            talk.drop()
            with pytest.raises(ServiceError, match="closed the connection"):
                async for _ in talk:
                    pass

    asyncio.run(asyncio.wait_for(run(), 60))


def test_by_hand_sound_goes_up_and_events_come_down() -> None:
    async def run() -> list[object]:
        server = Server(clock=MonotonicClock())
        async with serving(server), connect(server.url, Hello(sample_rate_hz=RATE_HZ), aligns=False) as talk:
            talk.send(np.frombuffer(frame(7), "<i2")[:100])
            talk.send(frame(7)[200:])
            talk.mark("one")
            talk.adjust(voice="ravi")
            talk.send(frame(8)[:6])
            talk.end()
            with pytest.raises(RuntimeError, match="has ended"):
                talk.send(b"")
            return [event async for event in talk]

    events = asyncio.run(asyncio.wait_for(run(), 60))
    replies = [event for event in events if isinstance(event, ReplyAudio)]
    assert [reply.seq for reply in replies] == [0, 1]
    assert codes(replies[1])[0] == 7
    kinds = [type(event).__name__ for event in events]
    assert kinds.index("Marked") > kinds.index("ReplyAudio")
    assert not any(isinstance(event, Ready) for event in events)
