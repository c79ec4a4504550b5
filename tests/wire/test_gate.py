"""Keys, origins and limits through the real application, and that nothing secret reaches a log line."""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from paluku.protocol import native
from paluku.protocol.messages import End, Error, Hello, Mark, ReplyAudio, Text
from paluku.serving.app import build_app
from paluku.serving.config import ServingConfig
from paluku.serving.gate import Gate
from tests.fakes.stages import SCRIPT, frame
from tests.wire.server import RATE_HZ, RawClient, Server, serving, until

KEY = "pk_a-key-long-enough-for-anyone"
RIGHT = {"Authorization": f"Bearer {KEY}"}
KEYS = {"PALUKU_KEYS": f"phone={KEY}"}
REALTIME = "/v1/realtime?model=paluku"

Script = Callable[[Server], Coroutine[Any, Any, None]]


def play(script: Script, environ: dict[str, str] | None = None, **config: Any) -> None:
    async def run() -> None:
        server = Server(num_seats=4, config=ServingConfig.model_validate(config))
        gate = Gate(server.service.config, server.clock, KEYS if environ is None else environ)
        server.app = build_app(server.service, gate)
        async with serving(server):
            await script(server)

    asyncio.run(run())


@asynccontextmanager
async def socket(server: Server, path: str = "/ws", **options: Any) -> AsyncIterator[ClientConnection]:
    url = f"ws://127.0.0.1:{server.port}{path}"
    async with connect(url, compression=None, proxy=None, **options) as connection:
        yield connection


async def status(server: Server, path: str = "/ws", **options: Any) -> int:
    """The HTTP status of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with socket(server, path, **options):
            pass
    return caught.value.response.status_code


def the_error(said: list[Any]) -> Error:
    (error,) = [message for message in said if isinstance(message, Error)]
    return error


@pytest.mark.parametrize("path", ["/ws", "/v1/realtime", "/openai/v1/realtime"])
def test_a_wrong_key_or_a_strangers_page_fails_at_the_handshake(path: str) -> None:
    async def script(server: Server) -> None:
        wrong = {"Authorization": "Bearer wrong"}
        assert await status(server, path, additional_headers=wrong) == 401
        offered = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.wrong")]
        assert await status(server, path, subprotocols=offered) == 401
        evil = Origin("https://evil.example")
        assert await status(server, path, additional_headers=RIGHT, origin=evil) == 403
        assert server.service.endings == {"unauthorized": 2, "forbidden_origin": 1}
        assert server.service.stats()["seats_used"] == 0

    play(script)


def test_realtime_needs_its_key_at_the_handshake() -> None:
    async def script(server: Server) -> None:
        assert await status(server, REALTIME) == 401
        assert await status(server, f"{REALTIME}&key={KEY}") == 401  # an address is logged: never there
        async with socket(server, REALTIME, additional_headers=RIGHT) as client:
            assert json.loads(await client.recv())["type"] == "session.created"
        offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{KEY}")]
        async with socket(server, REALTIME, subprotocols=offered) as client:
            assert client.subprotocol == "realtime"
            assert json.loads(await client.recv())["type"] == "session.created"

    play(script)


@pytest.mark.parametrize("asked", [{}, {"key": "wrong"}, {"key": KEY[:-1]}])
def test_a_native_client_may_say_its_key_in_hello_and_must(asked: dict[str, str]) -> None:
    async def script(server: Server) -> None:
        async with socket(server) as connection:
            client = RawClient(connection)
            await connection.send(native.encode(native_hello(**asked)))
            said, code, reason = await client.to_end()
        assert (code, reason) == (1008, "unauthorized")
        assert the_error(said).code == "unauthorized"
        assert not server.stages[0].asked  # no seat was touched
        async with socket(server) as connection:
            await RawClient(connection).hello(key=KEY)

    play(script)


def native_hello(**asked: Any) -> Hello:
    return Hello.model_validate({"sample_rate_hz": RATE_HZ, **asked})


def test_the_own_page_and_listed_ones_may_connect() -> None:
    async def script(server: Server) -> None:
        for origin in (f"http://127.0.0.1:{server.port}", "https://app.example.org"):
            async with socket(server, origin=Origin(origin)) as connection:
                await RawClient(connection).hello()

    play(script, environ={}, security={"origins": ["https://app.example.org"]})


def test_a_key_holds_so_many_sessions() -> None:
    async def script(server: Server) -> None:
        async with socket(server, additional_headers=RIGHT) as first:
            await RawClient(first).hello()
            async with socket(server, additional_headers=RIGHT) as second:
                await second.send(native.encode(native_hello()))
                said, code, reason = await RawClient(second).to_end()
            assert (code, reason) == (1013, "too_many_sessions")
            assert the_error(said).retry_s is not None
            assert await status(server, REALTIME, additional_headers=RIGHT) == 429
        await until(lambda: server.service.stats()["seats_used"] == 0)
        async with socket(server, REALTIME, additional_headers=RIGHT):
            assert await status(server, REALTIME, additional_headers=RIGHT) == 429

    play(script, limits={"sessions_per_key": 1})


async def refused_hello(server: Server, **asked: Any) -> str:
    async with socket(server, additional_headers=RIGHT) as connection:
        await connection.send(native.encode(native_hello(**asked)))
        return (await RawClient(connection).to_end())[2]


def test_a_session_that_waits_holds_its_place_and_its_own_client_may_resume_it() -> None:
    async def script(server: Server) -> None:
        token: str | None = None
        for number in range(4):
            async with socket(server, additional_headers=RIGHT) as connection:
                resume = {"resume": {"token": token, "next_reply": 0}} if token else {}
                token = (await RawClient(connection).hello(**resume)).resume_token
                connection.transport.abort()
            await until(lambda n=number: server.service.endings["client_lost"] == n + 1)
            assert await refused_hello(server) == "too_many_sessions"
            # Who asks for what is not there gets no seat, and leaves no trace.
            assert await refused_hello(server, resume={"token": "x", "next_reply": 0}) == "unknown_token"
            assert await refused_hello(server) == "too_many_sessions"
        for _ in range(30):  # grace
            await server.tick()
        await until(lambda: server.service.stats()["seats_used"] == 0)
        async with socket(server, additional_headers=RIGHT) as connection:
            await RawClient(connection).hello()
            assert await refused_hello(server) == "too_many_sessions"

    play(script, limits={"sessions_per_key": 1}, grace_s=1)


def test_a_resume_over_a_socket_that_still_stands_leaves_one_place_taken() -> None:
    async def script(server: Server) -> None:
        async with socket(server, additional_headers=RIGHT) as old:
            ready = await RawClient(old).hello()
            async with socket(server, additional_headers=RIGHT) as new:
                await RawClient(new).hello(resume={"token": ready.resume_token, "next_reply": 0})
                assert (await RawClient(old).to_end())[1:] == (1001, "resumed")
                assert await refused_hello(server) == "too_many_sessions"
        await until(lambda: server.service.stats()["seats_used"] == 0)
        async with socket(server, additional_headers=RIGHT) as connection:
            await RawClient(connection).hello()

    play(script, limits={"sessions_per_key": 1})


def test_messages_faster_than_allowed_are_told_so() -> None:
    async def script(server: Server) -> None:
        async with socket(server) as connection:
            client = RawClient(connection)
            await client.hello()
            for number in range(11):
                await connection.send(native.encode(Mark(str(number))))
            said, code, reason = await client.to_end()
            assert (code, reason) == (1008, "too_many_messages")
            assert the_error(said).code == "too_many_messages"
        async with socket(server, REALTIME) as connection:
            for _ in range(11):
                await connection.send("{}")
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await connection.recv()
            assert (connection.close_code, connection.close_reason) == (1008, "too_many_messages")

    play(script, environ={}, limits={"message_burst": 10, "event_burst": 10})


def test_the_faults_of_a_client_that_never_got_ready_hold_no_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object) -> None:
        raise WebSocketDisconnect(1006)

    async def script(server: Server) -> None:
        monkeypatch.setattr("paluku.serving.connection.Talk.say", gone)
        async with socket(server, additional_headers=RIGHT) as connection:
            await connection.send(native.encode(native_hello()))
            await until(lambda: server.service.endings["client_left"])
        stats = server.service.stats()
        assert (stats["sessions"], stats["seats_used"]) == (0, 0)
        monkeypatch.undo()
        async with socket(server, additional_headers=RIGHT) as connection:
            await RawClient(connection).hello()

    play(script, limits={"sessions_per_key": 1})


@pytest.mark.parametrize("path", ["/ws", REALTIME])
def test_a_fault_of_the_reader_ends_the_talk_with_its_error(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    async def script(server: Server) -> None:
        async with socket(server, path) as connection:
            if path == "/ws":
                await RawClient(connection).hello()
                monkeypatch.setattr("paluku.serving.connection.Talk._obey", broken)
                await connection.send(native.encode(Mark("x")))
                said, code, reason = await RawClient(connection).to_end()
                assert the_error(said).code == "internal_error"
            else:
                monkeypatch.setattr("paluku.serving.realtime.Talk._obey", broken)
                await connection.send("{}")
                said = []
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        said.append(json.loads(await connection.recv()))
                code, reason = connection.close_code, connection.close_reason
                assert said[-1]["error"]["code"] == "internal_error"
            assert (code, reason) == (1011, "internal_error")
        await until(lambda: server.service.stats()["seats_used"] == 0)

    play(script, environ={})


@pytest.mark.parametrize(
    "broken", ["starlette.websockets.WebSocket.accept", "paluku.serving.realtime.Talk.run"]
)
def test_a_realtime_session_never_waits(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object) -> None:
        raise WebSocketDisconnect(1006)

    async def script(server: Server) -> None:
        monkeypatch.setattr(broken, gone)
        with contextlib.suppress(InvalidStatus, ConnectionClosed):
            async with socket(server, REALTIME):
                pass
        await until(lambda: server.service.endings["client_left"])
        stats = server.service.stats()
        assert (stats["sessions"], stats["seats_used"]) == (0, 0)

    play(script, environ={})


def test_sound_faster_than_allowed_is_told_so() -> None:
    async def script(server: Server) -> None:
        async with socket(server) as connection:
            client = RawClient(connection)
            await client.hello()
            for _ in range(26):  # one second may come at once, and this is a frame more
                await client.say(frame(1))
            said, code, reason = await client.to_end()
        assert (code, reason) == (1008, "too_fast")
        assert "faster than 1.25 seconds a second" in the_error(said).message

    play(script, environ={}, limits={"sound_burst_s": 1})


def test_a_message_that_is_too_big_is_told_so() -> None:
    async def script(server: Server) -> None:
        async with socket(server) as connection:
            client = RawClient(connection)
            await client.hello()
            await client.say(bytes(2_000))
            said, code, reason = await client.to_end()
        assert (code, reason) == (1009, "too_big")
        assert "1024 are allowed" in the_error(said).message

    play(script, environ={}, limits={"max_message_bytes": 1_024})


def test_a_session_ends_at_its_greatest_length() -> None:
    async def script(server: Server) -> None:
        async with socket(server) as connection:
            client = RawClient(connection)
            await client.hello()
            await client.say(frame(1))
            await server.heard(1)
            for _ in range(30):
                await server.tick()
            await client.say(frame(2))
            said, code, reason = await client.to_end()
        assert (code, reason) == (1008, "too_long")
        assert [reply.seq for reply in said if isinstance(reply, ReplyAudio)] == [0]

    play(script, environ={}, limits={"max_session_s": 1})


SECRET_WORDS = "ఇది ఒక రహస్యం"
SECRET_SOUND = frame(*range(4_001, 4_009))
BASE64_SOUND = base64.b64encode(SECRET_SOUND).decode()


async def speak_native(server: Server) -> str:
    """A whole session, with a key and a transcript. Gives its resume token."""
    async with socket(server, additional_headers=RIGHT) as connection:
        client = RawClient(connection)
        token = (await client.hello(capabilities=["text"])).resume_token
        await client.say(SECRET_SOUND * 12)
        await server.heard(12)
        await connection.send(native.encode(End()))
        for _ in range(12):
            await server.tick()
        said, code, _ = await client.to_end()
    assert code == 1000
    assert SCRIPT[4:] in "".join(message.text for message in said if isinstance(message, Text))
    return token


async def break_native(server: Server) -> str:
    """What goes wrong is what is logged."""
    for message in (native.encode(native_hello(key=f"{KEY}!")), b"\x02" + SECRET_SOUND, SECRET_SOUND, KEY):
        async with socket(server) as connection:
            await connection.send(message)
            await RawClient(connection).to_end()
    assert await status(server, additional_headers={"Authorization": f"Bearer {KEY}?"}) == 401
    async with socket(server, additional_headers=RIGHT) as connection:
        client = RawClient(connection)
        token = (await client.hello()).resume_token
        await client.say(SECRET_SOUND)
        await server.heard(1)
        server.stages[2].failing.add("all")
        for _ in range(4):
            await server.tick()
        connection.transport.abort()
    server.stages[2].failing.clear()
    server.fleets[2].gone.clear()
    return token


async def speak_realtime(server: Server) -> None:
    words = {"type": "input_text", "text": SECRET_WORDS}
    events = (
        {"type": "session.update", "session": {"type": "realtime", "instructions": SECRET_WORDS}},
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": [words]},
        },
        {"type": "input_audio_buffer.append", "audio": BASE64_SOUND},
        {"type": "no.such.event", "text": SECRET_WORDS, "audio": BASE64_SOUND},
    )
    async with socket(server, REALTIME, additional_headers=RIGHT) as client:
        for event in events:
            await client.send(json.dumps(event, ensure_ascii=False))
        while json.loads(await client.recv())["type"] != "error":
            pass


def test_no_log_line_holds_a_key_a_token_sound_or_words(caplog: pytest.LogCaptureFixture) -> None:
    tokens: list[str] = []

    async def script(server: Server) -> None:
        tokens.append(await speak_native(server))
        tokens.append(await break_native(server))
        await speak_realtime(server)
        await until(lambda: server.service.endings["unauthorized"] == 2)

    # Everything of ours, and what others say at the level that servers run at: `websockets` itself prints
    # whole messages when it debugs.
    with caplog.at_level(logging.INFO), caplog.at_level(logging.DEBUG, "paluku"):
        play(script)
    assert any(record.name.startswith("paluku") for record in caplog.records), "nothing was captured"
    lines = "\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records)
    secrets = [KEY, *tokens, SECRET_WORDS, SCRIPT[4:], BASE64_SOUND[:24]]
    secrets += [repr(SECRET_SOUND)[2:30], SECRET_SOUND.hex()[:24], "4001", "4002"]
    assert [secret for secret in secrets if secret in lines] == []
