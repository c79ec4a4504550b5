"""How our clients come back, against a server that says what it is told to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from paluku.client.session import connect
from paluku.errors import SeatsExhausted, ServiceError
from paluku.protocol import native
from paluku.protocol.messages import CloseCode, Error, Hello, Ready
from tests.wire.server import until

HELLO = Hello(sample_rate_hz=16_000)
LOST = (Error(code="stage_lost", message="no stage took the session"), CloseCode.STAGE_LOST)
FULL = (Error(code="no_seat", message="all seats are taken", retry_s=5.0), CloseCode.TRY_AGAIN)
GONE = (Error(code="unknown_token", message="no such session"), CloseCode.POLICY)
Answer = Ready | tuple[Error, CloseCode]


def ready(next_frame: int = 0, grace_s: float = 30.0) -> Ready:
    return Ready(
        session_id="s",
        resume_token="t",
        grace_s=grace_s,
        sample_rate_hz=16_000,
        frame_samples=640,
        frame_ms=40.0,
        acoustic_delay_frames=1,
        next_frame=next_frame,
        next_reply=0,
        tick_in_ms=0.0,
        lead_ms=10.0,
        capabilities=(),
        server="scripted",
    )


class Scripted:
    """Answers each Hello by the next answer, and remembers the connections."""

    def __init__(self, *answers: Answer) -> None:
        self.left = list(answers)
        self.seen: list[ServerConnection] = []
        self.url = ""

    async def talk(self, connection: ServerConnection) -> None:
        self.seen.append(connection)
        await connection.recv()
        answer = self.left.pop(0)
        if isinstance(answer, Ready):
            await connection.send(native.encode(answer))
            await connection.wait_closed()
            return
        error, code = answer
        await connection.send(native.encode(error))
        await connection.close(code, error.code)


@asynccontextmanager
async def scripted(*answers: Answer) -> AsyncIterator[Scripted]:
    server = Scripted(*answers)
    async with serve(server.talk, "127.0.0.1", 0) as listening:
        server.url = f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}/ws"
        yield server


def play(script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(script(), 30))


@pytest.mark.parametrize("refusal", [LOST, FULL])
def test_a_refusal_while_resuming_is_waited_out(refusal: tuple[Error, CloseCode]) -> None:
    async def script() -> None:
        async with scripted(ready(), refusal, refusal, ready()) as server, connect(server.url, HELLO) as talk:
            talk.drop()
            await until(lambda: talk.record.resumes == 1)
            assert len(server.seen) == 4

    play(script)


def test_what_has_no_end_is_given_up_when_the_grace_is_over() -> None:
    async def script() -> None:
        answers = [ready(grace_s=0.1), *[LOST] * 20]
        async with scripted(*answers) as server, connect(server.url, HELLO) as talk:
            talk.drop()
            with pytest.raises(ServiceError, match="could not be resumed"):
                async for _ in talk:
                    pass

    play(script)


def test_a_session_that_is_gone_is_not_asked_for_again() -> None:
    async def script() -> None:
        async with scripted(ready(), GONE) as server, connect(server.url, HELLO) as talk:
            talk.drop()
            with pytest.raises(ServiceError, match="unknown_token"):
                async for _ in talk:
                    pass
            assert len(server.seen) == 2

    play(script)


@pytest.mark.parametrize(("refusal", "error"), [(LOST, ServiceError), (FULL, SeatsExhausted)])
def test_a_refusal_at_first_is_told(refusal: tuple[Error, CloseCode], error: type[Exception]) -> None:
    async def script() -> None:
        async with scripted(refusal) as server:
            with pytest.raises(error):
                async with connect(server.url, HELLO):
                    pass
            assert len(server.seen) == 1

    play(script)


def test_a_link_that_cannot_go_on_is_closed() -> None:
    async def script() -> None:
        async with scripted(ready(), ready(next_frame=99)) as server, connect(server.url, HELLO) as talk:
            talk.drop()
            with pytest.raises(ServiceError, match="go on with frame 99"):
                async for _ in talk:
                    pass
            await server.seen[1].wait_closed()
            assert server.seen[1].close_code == CloseCode.DONE  # a goodbye: its seat is free

    play(script)
