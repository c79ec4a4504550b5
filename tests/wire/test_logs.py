"""JSON log lines of the real application while it is talked to: who and when, and nothing of what."""

import asyncio
import contextlib
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from websockets.asyncio.client import connect

from paluku import log
from paluku.log import serves_as
from paluku.protocol import native
from paluku.protocol.messages import End, Mark, Text, UserText
from paluku.serving.app import build_app
from paluku.serving.gate import Gate
from tests.fakes.stages import HEARD, HEARD_FROM, SCRIPT, frame
from tests.wire.server import RawClient, Server, client, serving, until

KEY = "pk_a-key-long-enough-for-anyone"
LABEL = "a label of the client's"
SOUND = (4001, 4002, 4003, 4004)
FRAMES = HEARD_FROM + 12


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Our lines so far, whatever their level, as a server writes them to stderr with PALUKU_LOG=json."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(log, "_process", {})
    root = logging.getLogger("paluku")
    before = root.handlers[:], root.level, root.propagate
    root.handlers = []
    serves_as({"PALUKU_LOG": "json"}, ingress="test")
    root.setLevel(logging.DEBUG)
    yield lambda: stderr.getvalue().splitlines()
    root.handlers, root.level, root.propagate = before[0], before[1], before[2]


def server_with_a_key() -> Server:
    server = Server()
    server.app = build_app(
        server.service, Gate(server.service.config, server.clock, {"PALUKU_KEYS": f"a={KEY}"})
    )
    return server


async def converse(server: Server) -> tuple[str, str, str]:
    """A whole session with every kind of content; gives its id, its token and what it was told as text."""
    heard = ""
    async with client(server) as user:
        ready = await user.hello(key=KEY, capabilities=["text", "user_text"])
        await user.connection.send(native.encode(Mark(LABEL)))
        for number in range(FRAMES):
            await user.say(frame(*SOUND))
            await server.heard(number + 1)
            await server.tick()
        await user.connection.send(native.encode(End()))
        closing = asyncio.create_task(user.to_end())
        while not closing.done():
            await server.tick()
            await asyncio.sleep(0.001)
        for message in closing.result()[0]:
            heard += message.text if isinstance(message, Text | UserText) else ""
    return ready.session_id, ready.resume_token, heard


async def break_in(server: Server) -> None:
    """A wrong key, then a reader that fails by an error which quotes the client."""
    async with connect(server.url, compression=None, proxy=None) as connection:
        with contextlib.suppress(AssertionError):
            await RawClient(connection).hello(key="pk_a-wrong-key-of-somebody-else")
    async with client(server) as user:
        await user.hello(key=KEY)
        (session,) = server.service._sessions.values()

        def fail(pcm: bytes, now_s: float) -> None:
            raise RuntimeError(f"cannot take {pcm!r} of {SCRIPT}")

        session.hear = fail  # type: ignore[method-assign]
        await user.say(frame(*SOUND))
        await until(lambda: session.ending is not None)


def test_no_line_holds_a_key_sound_or_words(lines: Callable[[], list[str]]) -> None:
    async def run() -> tuple[str, str, str]:
        server = server_with_a_key()
        async with serving(server):
            known = await converse(server)
            await break_in(server)
        return known

    session_id, token, heard = asyncio.run(run())
    assert SCRIPT in heard
    assert HEARD in heard
    written = lines()
    found = [json.loads(line) for line in written]
    assert {line["ingress"] for line in found} == {"test"}
    own = [line["event"] for line in found if line.get("session") == session_id]
    assert own == ["a session begins", "its connection is over: done"]
    (fault,) = (line for line in found if line["level"] == "error")
    assert fault["event"].startswith("its reader failed: RuntimeError at connection.py:")
    assert fault["session"] != session_id
    secrets = [
        KEY,
        "pk_a-wrong-key",
        token,
        LABEL,
        SCRIPT[:4],
        SCRIPT[4:],
        HEARD[:1],
        "4001",
        repr(frame(*SOUND))[2:12],
    ]
    text = "\n".join(written)
    assert [secret for secret in secrets if secret in text] == []


def test_lines_of_two_sessions_at_once_name_their_own(lines: Callable[[], list[str]]) -> None:
    async def run() -> list[str]:
        async with serving(Server()) as server, client(server) as one, client(server) as two:
            ids = [(await user.hello()).session_id for user in (one, two)]
            await two.connection.close()
            await one.connection.close()
            await until(lambda: not server.service._sessions)
        return ids

    ids = asyncio.run(run())
    found = [json.loads(line) for line in lines()]
    for session_id in ids:
        own = [line["event"] for line in found if line.get("session") == session_id]
        assert own == ["a session begins", "its connection is over: client_left"]
