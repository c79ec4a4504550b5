"""Strangers at the door: whatever comes over a socket ends with a stated code, and leaves nothing behind."""

import asyncio
import random

from websockets.exceptions import ConnectionClosed

from paluku.protocol import native
from paluku.protocol.messages import Error
from tests.fuzz import EXAMPLES
from tests.unit.protocol.test_native import GOLDEN_CLIENT
from tests.wire.server import RawClient, Server, client, serving, until

CODES = {
    "no_hello",
    "second_hello",
    "after_end",
    "out_of_order",
    "bad_frame",
    "wrong_rate",
    "unsupported_version",
    "malformed",
    "unknown_kind",
    "odd_bytes",
    "not_binary",
    "too_big",
    "too_fast",
    "unknown_token",
    "idle",
}
WORDS_A_SOCKET = 8


def word(rng: random.Random) -> bytes | str:
    """Something a client of ours could not say, mostly."""
    data = bytearray(rng.choice(GOLDEN_CLIENT)[1])
    for _ in range(rng.randrange(3)):
        where = rng.randrange(len(data) + 1)
        data[where : where + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    match rng.randrange(40):
        case 0:
            return "text"
        case 1:
            return bytes(native.MAX_MESSAGE_BYTES + 1)
        case _:
            return bytes(data)


async def pester(server: Server, raw: RawClient, rng: random.Random) -> str:
    """Say nonsense over one socket; gives the error's code, or nothing when there was none."""
    errors: list[Error] = []

    async def read() -> None:
        try:
            while True:
                message = await raw.receive()
                if isinstance(message, Error):
                    errors.append(message)
        except ConnectionClosed:
            pass

    reading = asyncio.create_task(read())
    try:
        if rng.random() < 0.9:
            await raw.connection.send(b'\x01{"version":2,"sample_rate_hz":16000}')
        for _ in range(WORDS_A_SOCKET):
            await raw.connection.send(word(rng))
        await server.tick()
        if rng.random() < 0.5:
            await raw.connection.close()
        else:
            raw.connection.transport.abort()
    except ConnectionClosed:
        pass
    await reading
    return errors[0].code if errors else ""


def test_whatever_is_said_has_a_stated_end_and_leaves_no_seat_taken() -> None:
    rng = random.Random(1)
    seen: set[str] = set()

    async def run() -> None:
        async with serving(Server(num_seats=4)) as server:
            for _ in range(max(20, EXAMPLES // WORDS_A_SOCKET)):
                async with client(server) as raw:
                    seen.add(await pester(server, raw, rng))
                server.clock.advance(server.service.config.grace_s + 1)  # type: ignore[attr-defined]
                await until(lambda: not server.service._sessions)
            await until(lambda: server.service.stats()["seats_used"] == 0)
            assert server.service.is_running

    asyncio.run(run())
    assert seen <= CODES | {""}
    assert len(seen) > 5
