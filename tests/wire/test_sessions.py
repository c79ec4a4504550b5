"""Sessions over a real WebSocket: what comes back, in which order, and how each one ends."""

import asyncio
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import numpy as np
import pytest

from paluku.protocol import native
from paluku.protocol.messages import End, Error, Hello, ReplyAudio, Stats, Text
from paluku.serving.config import ServingConfig
from tests.fakes.stages import SCRIPT, frame
from tests.wire.server import RATE_HZ, RawClient, Server, client, serving, until

Script = Callable[[Server], Coroutine[Any, Any, None]]


def play(script: Script, **options: Any) -> None:
    """Run a script against a fresh server with two seats."""

    async def run() -> None:
        async with serving(Server(**options)) as server:
            await script(server)

    asyncio.run(run())


def codes(reply: ReplyAudio) -> list[int]:
    return np.frombuffer(reply.sound, "<i2")[:8].tolist()


async def replies(user: RawClient, count: int) -> list[ReplyAudio]:
    found: list[ReplyAudio] = []
    while len(found) < count:
        message = await user.receive()
        if isinstance(message, ReplyAudio):
            found.append(message)
    return found


def test_each_frame_is_answered_by_the_one_before_it() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            ready = await user.hello(voice="ravi")
            assert (ready.sample_rate_hz, ready.frame_samples, ready.frame_ms) == (RATE_HZ, 640, 40.0)
            assert ready.acoustic_delay_frames == 1
            for number in range(3):
                await user.say(frame(10 + number))
                await server.heard(number + 1)
                await server.tick()
            first, second, third = await replies(user, 3)
        assert (first.seq, first.present, codes(first)[0]) == (0, False, 0)
        assert (second.seq, second.present, codes(second)[0]) == (1, True, 10)
        assert (third.seq, third.present, codes(third)[0]) == (2, True, 11)

    play(script)


def test_sound_may_come_in_chunks_of_any_size() -> None:
    async def script(server: Server) -> None:
        sound = frame(1) + frame(2) + frame(3)
        async with client(server) as user:
            await user.hello()
            for start in range(0, len(sound), 500):
                await user.say(sound[start : start + 500])
            await server.heard(3)
            for _ in range(2):  # the third frame is caught up in the second tick
                await server.tick()
            assert [codes(reply)[0] for reply in await replies(user, 3)] == [0, 1, 2]
        assert server.service.stats()["frames_caught_up"] == 1

    play(script)


def test_end_drains_pads_and_closes_1000() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello(capabilities=["stats"])
            await user.say(frame(1) + frame(2)[:100])
            await user.connection.send(native.encode(End()))
            await until(lambda: sum(s.frames_in for s in server.service._sessions.values()) == 2)
            for _ in range(3):
                await server.tick()
            said, code, _ = await user.to_end()
        assert code == 1000
        assert [m.seq for m in said if isinstance(m, ReplyAudio)] == [0, 1]
        stats = [m for m in said if isinstance(m, Stats)]
        assert (stats[-1].frames_in, stats[-1].frames_out, stats[-1].late_frames) == (2, 2, 0)
        await until(lambda: server.service.stats()["seats_used"] == 0)
        assert server.service.stats()["endings"] == {"done": 1}

    play(script)


def test_the_transcript_comes_in_whole_characters() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello(capabilities=["text"])
            await user.say(b"".join(frame(n) for n in range(12)))
            await user.connection.send(native.encode(End()))
            await server.heard(12)
            for _ in range(8):
                await server.tick()
            said, _, _ = await user.to_end()
        pieces = [m.text for m in said if isinstance(m, Text)]
        assert "".join(pieces) == SCRIPT
        assert "é" in pieces

    play(script)


def test_two_sessions_do_not_hear_each_other() -> None:
    async def script(server: Server) -> None:
        async with client(server) as one, client(server) as two:
            await one.hello()
            await two.hello()
            for number in range(3):
                await one.say(frame(100 + number))
                await two.say(frame(200 + number))
                await server.heard(2 * (number + 1))
                await server.tick()
            assert [codes(r)[0] for r in await replies(one, 3)] == [0, 100, 101]
            assert [codes(r)[0] for r in await replies(two, 3)] == [0, 200, 201]
        assert server.service.stats()["ticks"] == 3  # one batch a tick carried both

    play(script)


def test_server_time_runs_from_arrival_to_sending() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello()
            await user.say(frame(1))
            await server.heard(1)
            await server.tick()
            (reply,) = await replies(user, 1)
        assert reply.spent_ms == pytest.approx(40.0)

    play(script)


def test_a_frame_answered_more_than_a_tick_late_is_counted() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello()
            server.stages[1].gate.clear()
            await user.say(frame(1))
            await server.heard(1)
            await server.tick()
            await server.tick()
            await server.tick()
            server.stages[1].gate.set()
            await replies(user, 1)
            assert server.service.stats()["frames_late"] == 1
            await user.say(frame(2))
            await server.heard(2)
            await server.tick()
            await replies(user, 1)
            assert server.service.stats()["frames_late"] == 1

    play(script)


def test_every_frame_that_a_stall_holds_up_is_late() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello()
            server.stages[1].gate.clear()
            for number in range(10):
                await user.say(frame(number))
                await server.heard(number + 1)
                await server.tick()
            server.stages[1].gate.set()
            while server.service.stats()["frames_out"] < 10:
                await server.tick()
            # The last two had waited no longer than a tick and were answered within the next.
            assert server.service.stats()["frames_late"] >= 8

    play(script)


def test_no_free_seat_closes_1013_before_any_sound() -> None:
    async def script(server: Server) -> None:
        async with client(server) as one, client(server) as two, client(server) as three:
            await one.hello()
            await two.hello()
            await three.connection.send(native.encode(Hello(sample_rate_hz=RATE_HZ)))
            said, code, reason = await three.to_end()
        assert (code, reason) == (1013, "no_seat")
        (error,) = said
        assert isinstance(error, Error)
        assert (error.code, error.retry_s) == ("no_seat", 5.0)

    play(script)


def test_a_client_that_leaves_frees_its_seat_for_a_fresh_session() -> None:
    async def script(server: Server) -> None:
        async with client(server) as stays:
            await stays.hello()
            async with client(server) as leaves:
                await leaves.hello()
                await leaves.say(frame(66) + frame(67))
                await server.heard(2)
                await server.tick()
            await until(lambda: server.service.stats()["seats_used"] == 1)
            async with client(server) as comes:
                await comes.hello()
                await comes.say(frame(1))
                await server.heard(1)
                await server.tick()
                (first,) = await replies(comes, 1)
            assert not first.present  # nothing of the seat's last user
        assert server.service.stats()["endings"]["client_left"] >= 1

    play(script)


def test_a_client_that_vanishes_finds_its_session_where_it_left_it() -> None:
    async def script(server: Server) -> None:
        async with client(server) as vanishes:
            ready = await vanishes.hello(voice="ravi")
            await vanishes.say(frame(1) + frame(2))
            await server.heard(2)
            await server.tick()
            assert [codes(r)[0] for r in await replies(vanishes, 2)] == [0, 1]
            vanishes.connection.transport.abort()
        await until(lambda: server.service.stats()["sessions_waiting"] == 1)
        assert server.service.stats()["seats_used"] == 1
        async with client(server) as again:
            resumed = await again.hello(resume={"token": ready.resume_token, "next_reply": 2})
            assert (resumed.session_id, resumed.next_frame, resumed.next_reply) == (ready.session_id, 2, 2)
            await again.say(frame(3))
            await until(lambda: any(s.frames_in for s in server.service._sessions.values()))
            await server.tick()
            (third,) = await replies(again, 1)
            assert (third.seq, codes(third)[0]) == (2, 2)
        assert server.service.stats()["resumes"] == 1

    play(script)


def test_a_token_of_no_session_is_refused() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            hello = Hello.model_validate(
                {"sample_rate_hz": RATE_HZ, "resume": {"token": "x", "next_reply": 0}}
            )
            await user.connection.send(native.encode(hello))
            said, code, reason = await user.to_end()
        assert (code, reason) == (1008, "unknown_token")
        assert "begin a new one" in str(said[-1])

    play(script)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_stage_that_does_not_come_back_ends_its_sessions_and_nothing_else(position: int) -> None:
    async def script(server: Server) -> None:
        async with client(server) as speaks, client(server) as is_silent:
            await speaks.hello()
            await is_silent.hello()
            server.stages[position].failing = {"all"}
            await speaks.say(frame(1))
            await server.heard(1)
            for _ in range(40):
                await server.tick()
            for user in (speaks, is_silent):
                said, code, reason = await user.to_end()
                assert (code, reason) == (1011, "stage_lost")
                assert isinstance(said[-1], Error)
        await until(lambda: server.service.stats()["seats_used"] == 0)
        server.stages[position].failing = set()
        await server.stages[position].expire()
        server.fleets[position].gone = set()
        async with client(server) as user:
            await user.hello()
            await user.say(frame(1))
            await server.heard(1)
            await server.tick()
            assert len(await replies(user, 1)) == 1

    play(script, config=ServingConfig(recovery_s=1.0))


def test_batches_behind_a_lost_stage_do_not_wait_for_it_again() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello()
            server.stages[1].gate.clear()
            for number in range(3):
                await user.say(frame(number + 1))
                await server.heard(number + 1)
                await server.tick()
            server.stages[1].failing = {"step"}
            server.stages[1].gate.set()
            for _ in range(10):
                await server.tick()
            assert server.stages[1].attempts == 1
            assert server.service.stats()["batches_lost"] == 3
            # The other replica answers all three: nothing was lost but time.
            assert [codes(r)[0] for r in await replies(user, 3)] == [0, 1, 2]

    play(script, replicas=2)


def test_a_stage_that_cannot_open_a_seat_refuses_the_session_and_frees_the_others() -> None:
    async def script(server: Server) -> None:
        server.stages[1].failing = {"open", "close"}
        async with client(server) as user:
            await user.connection.send(native.encode(Hello(sample_rate_hz=RATE_HZ)))
            _, code, _ = await user.to_end()
        assert code in (1011, 1013)
        await until(lambda: not any(stage.held for stage in server.stages))
        assert server.service.stats()["seats_used"] == 0

    play(script)


def test_a_stage_that_hangs_is_given_up() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello()
            server.stages[0].gate.clear()
            await user.say(frame(1))
            await server.heard(1)
            await server.tick()
            await until(lambda: server.service.stats()["moves"]["crash"] == 1)
            for _ in range(10):
                await server.tick()
            assert len(await replies(user, 1)) == 1

    play(script, config=ServingConfig(step_timeout_s=0.05), replicas=2)


def test_stages_that_fall_behind_make_frames_wait_not_the_clock() -> None:
    async def script(server: Server) -> None:
        server.stages[0].gate.clear()
        async with client(server) as user:
            await user.hello()
            for number in range(6):
                await user.say(frame(number + 1))
                await server.heard(number + 1)
                await server.tick()
            assert server.service.stats()["ticks_busy"] == 2  # four batches may be in flight
            server.stages[0].gate.set()
            await until(lambda: server.service.stats()["frames_out"] == 4)
            await server.tick()
            assert [codes(r)[0] for r in await replies(user, 6)] == [0, 1, 2, 3, 4, 5]

    play(script)


def with_seq(seq: int, pcm: bytes) -> bytes:
    return struct.pack("<BI", 0x02, seq) + pcm


@pytest.mark.parametrize(
    ("messages", "close_code", "error_code", "names"),
    [
        ([with_seq(0, b"")], 1002, "no_hello", "Hello first"),
        ([b"\x03"], 1002, "no_hello", "End before Hello"),
        ([b'\x01{"version":2,"sample_rate_hz":11025}'], 1002, "wrong_rate", "11025"),
        ([b'\x01{"version":1,"sample_rate_hz":16000}'], 1002, "unsupported_version", "version 2, not 1"),
        ([b'\x01{"sample_rate_hz":16000}'], 1002, "unsupported_version", "not None"),
        ([b'\x01{"version":2,"sample_rate_hz":16000,"voice":"\\ud800"}'], 1002, "malformed", "voice"),
        ([b"\x01[[["], 1002, "malformed", "JSON"),
        ([b"\x77"], 1002, "unknown_kind", "0x77"),
        ([b""], 1002, "malformed", "empty"),
        ([b"\x02" + bytes(70_000)], 1009, "too_big", "65536"),
        (["text"], 1003, "not_binary", "binary"),
        (["HELLO", "HELLO"], 1002, "second_hello", "once"),
        (["HELLO", with_seq(0, b"123")], 1002, "odd_bytes", "3 bytes"),
        (["HELLO", with_seq(1, b"12")], 1002, "out_of_order", "0 was due"),
        (["HELLO", b"\x02\x00"], 1002, "malformed", "head"),
        (["HELLO", b"\x03", with_seq(0, b"12")], 1002, "after_end", "ending"),
        (["HELLO", b"\x82" + bytes(20)], 1002, "unknown_kind", "REPLY_AUDIO"),
        (["HELLO", with_seq(0, bytes(1280 * 3))], 1008, "too_fast", "real time"),
    ],
)
def test_what_breaks_the_protocol_is_named_and_closed(
    messages: list[bytes | str], close_code: int, error_code: str, names: str
) -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            for message in messages:
                await user.connection.send(
                    native.encode(Hello(sample_rate_hz=RATE_HZ)) if message == "HELLO" else message
                )
            said, code, reason = await user.to_end()
        assert (code, reason) == (close_code, error_code)
        error = said[-1]
        assert isinstance(error, Error)
        assert error.code == error_code
        assert names in error.message
        await until(lambda: server.service.stats()["seats_used"] == 0)
        assert server.service.stats()["endings"] == {error_code: 1}

    play(script, config=ServingConfig(max_waiting_frames=2))


@pytest.mark.parametrize(
    ("limits", "says_hello", "code"),
    [({"hello_timeout_s": 0.02}, False, "no_hello"), ({"idle_timeout_s": 0.02}, True, "idle")],
)
def test_a_silent_client_does_not_hold_a_connection(
    limits: dict[str, float], says_hello: bool, code: str
) -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            if says_hello:
                await user.hello()
            said, close_code, reason = await user.to_end()
        assert (close_code, reason) == (1008, code)
        assert isinstance(said[-1], Error)

    play(script, config=ServingConfig(**limits))


def test_health_and_stats_answer() -> None:
    async def script(server: Server) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            health = await http.get("/health")
            assert health.status_code == 200
            assert health.json()["sample_rate_hz"] == RATE_HZ
            stats = (await http.get("/stats")).json()
            assert (stats["seats"], stats["seats_used"], stats["tick_p99_ms"]) == (2, 0, None)
            assert "Paluku" in (await http.get("/")).text
            await server.service.stop()
            assert (await http.get("/health")).status_code == 503

    play(script)


def test_a_stopping_service_tells_its_sessions() -> None:
    async def script(server: Server) -> None:
        async with client(server) as user:
            await user.hello()
            await server.service.stop()
            said, code, reason = await user.to_end()
        assert (code, reason) == (1012, "restarting")
        assert isinstance(said[-1], Error)

    play(script)
