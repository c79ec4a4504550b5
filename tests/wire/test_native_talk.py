"""What the second version of the protocol says, against the real application with a standing clock."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from paluku.protocol import native
from paluku.protocol.messages import (
    Adjust,
    ClientMessage,
    End,
    Error,
    Forget,
    Hello,
    Interrupt,
    Interrupted,
    Mark,
    Marked,
    Played,
    ReplyAudio,
    ServerMessage,
    Stats,
    Text,
    UserAudio,
    UserText,
)
from paluku.protocol.opus import OpusDecoder, OpusEncoder
from paluku.serving.app import build_app
from paluku.serving.config import LimitsConfig, SecurityConfig, ServingConfig
from paluku.serving.gate import Gate
from tests.fakes.stages import FRAME_SAMPLES, K, frame
from tests.wire.server import RATE_HZ, RawClient, Server, client, serving, until

EVERYTHING = ("align", "text", "user_text", "stats", "turns")


def play(script: Callable[[Server, RawClient], Awaitable[None]], config: ServingConfig | None = None) -> None:
    async def run() -> None:
        async with serving(Server(config=config)) as server, client(server) as raw:
            await script(server, raw)

    asyncio.run(asyncio.wait_for(run(), 60))


async def send(raw: RawClient, *messages: ClientMessage) -> None:
    for message in messages:
        await raw.connection.send(native.encode(message))


async def answered(server: Server, raw: RawClient, frames: int) -> list[ReplyAudio]:
    """Tick until so many frames more are answered; what else is said is passed over."""
    replies: list[ReplyAudio] = []
    while len(replies) < frames:
        await server.tick()
        try:
            async with asyncio.timeout(0.02):
                while len(replies) < frames:
                    message = await raw.receive()
                    assert not isinstance(message, Error), message
                    if isinstance(message, ReplyAudio):
                        replies.append(message)
        except TimeoutError:
            continue
    return replies


async def told(server: Server, raw: RawClient, kind: type[ServerMessage]) -> ServerMessage:
    """Tick until a message of this kind comes."""
    while True:
        await server.tick()
        try:
            async with asyncio.timeout(0.02):
                while not isinstance(message := await raw.receive(), kind):
                    assert not isinstance(message, Error), message
                return message
        except TimeoutError:
            continue


def codes(reply: ReplyAudio) -> list[int]:
    return np.frombuffer(reply.sound, "<i2")[:K].tolist()


def test_ready_says_what_a_client_has_to_know() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        ready = await raw.hello(capabilities=["align", "smell"])
        assert (ready.version, ready.sample_rate_hz, ready.frame_samples) == (2, RATE_HZ, FRAME_SAMPLES)
        assert (ready.next_frame, ready.next_reply) == (0, 0)
        assert ready.capabilities == ("align",)
        assert 0 <= ready.tick_in_ms <= ready.frame_ms == 40
        assert 0 < ready.lead_ms < ready.frame_ms
        assert ready.grace_s == server.service.config.grace_s
        assert ready.resume_token not in (ready.session_id, "")

    play(script)


def test_a_client_is_told_nothing_it_did_not_ask_for() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello()
        await raw.say(frame(1) * 30)
        await send(raw, End())
        ticking = asyncio.create_task(_tick_for_ever(server))
        said, code, _ = await raw.to_end()
        ticking.cancel()
        assert code == 1000
        assert {type(message) for message in said} == {ReplyAudio}

    play(script)


async def _tick_for_ever(server: Server) -> None:
    while True:
        await server.tick()


def test_text_and_stats_come_to_who_asked() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello(capabilities=EVERYTHING)
        await raw.say(frame(1) * 30)
        await send(raw, End())
        ticking = asyncio.create_task(_tick_for_ever(server))
        said, _, _ = await raw.to_end()
        ticking.cancel()
        assert {ReplyAudio, Text, UserText, Stats} <= {type(message) for message in said}

    play(script)


def test_a_mark_comes_back_behind_the_reply_to_the_sound_before_it() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello()
        await raw.say(frame(1) + frame(2))
        await send(raw, Mark("రెండు"))
        await raw.say(frame(3))
        said: list[ServerMessage] = []
        while len(said) < 4:
            await server.tick()
            while len(said) < 4:
                try:
                    said.append(await asyncio.wait_for(raw.receive(), 0.02))
                except TimeoutError:
                    break
        assert [m.seq if isinstance(m, ReplyAudio) else m for m in said] == [0, 1, Marked(2, "రెండు"), 2]

    play(script)


def test_voice_and_sampling_change_for_the_session() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello(voice="ravi", temperature=0.5)
        await send(raw, Adjust(style="happy", top_k=7))
        session = next(iter(server.service._sessions.values()))
        await until(lambda: session.conditions.style == "happy")
        now = session.conditions
        assert (now.voice, now.temperature, now.top_k) == ("ravi", 0.5, 7)

    play(script)


def test_an_interrupted_reply_is_silent_and_says_from_where() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello(capabilities=["turns"])
        for number in range(4):
            await raw.say(frame(number + 1))
        replies = await answered(server, raw, 4)
        assert [codes(reply)[0] for reply in replies] == [0, 1, 2, 3]
        await send(raw, Played(3), Interrupt())
        interrupted = await told(server, raw, Interrupted)
        assert interrupted == Interrupted(3)
        await raw.say(frame(9))
        assert [reply.seq for reply in await answered(server, raw, 1)] == [4]

    play(script)


def test_forget_is_obeyed() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello()
        await raw.say(frame(1) + frame(2))
        await answered(server, raw, 2)
        session = next(iter(server.service._sessions.values()))
        await send(raw, Forget())
        await until(lambda: session.memory.start == 2)

    play(script)


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 48_000])
def test_another_rate_gives_as_many_frames(rate_hz: int) -> None:
    async def script(server: Server, raw: RawClient) -> None:
        ready = await raw.hello(sample_rate_hz=rate_hz)
        assert ready.frame_samples == rate_hz // 25
        for _ in range(3):
            await raw.say(bytes(2 * ready.frame_samples))
        replies = await answered(server, raw, 3)
        assert [len(reply.sound) for reply in replies] == [2 * ready.frame_samples] * 3

    play(script)


@pytest.mark.parametrize("rate_hz", [24_000, 48_000])
def test_opus_packets_go_both_ways(rate_hz: int) -> None:
    async def script(server: Server, raw: RawClient) -> None:
        ready = await raw.hello(encoding="opus", sample_rate_hz=rate_hz)
        encoder, decoder = OpusEncoder(rate_hz), OpusDecoder(rate_hz)
        for _ in range(3):
            await raw.say(encoder.encode(np.zeros(ready.frame_samples, np.int16)))
        for reply in await answered(server, raw, 3):
            assert len(decoder.decode(reply.sound)) == ready.frame_samples

    play(script)


@pytest.mark.parametrize(
    ("encoding", "rate_hz", "sound", "code"),
    [
        ("opus", 24_000, b"\xff", "bad_sound"),
        ("opus", 24_000, b"", "bad_sound"),
        ("pcm16", 16_000, b"\0\0\0", "odd_bytes"),
    ],
)
def test_sound_that_is_none_closes_with_its_code(
    encoding: str, rate_hz: int, sound: bytes, code: str
) -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello(encoding=encoding, sample_rate_hz=rate_hz)
        await raw.say(sound)
        said, close_code, reason = await raw.to_end()
        assert (close_code, reason) == (1002, code)
        assert isinstance(said[-1], Error)
        assert said[-1].code == code
        await until(lambda: server.service.stats()["seats_used"] == 0)

    play(script)


@pytest.mark.parametrize(
    ("message", "code"),
    [(Played(1), "bad_frame"), (UserAudio(1, b""), "out_of_order")],
)
def test_a_broken_order_closes_with_its_code(message: ClientMessage, code: str) -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello()
        await send(raw, message)
        assert (await raw.to_end())[1:] == (1002, code)

    play(script)


def test_the_key_in_hello_opens_and_another_does_not() -> None:
    async def run() -> None:
        config = ServingConfig(security=SecurityConfig(keys_env="KEYS"))
        server = Server(config=config)
        server.app = build_app(server.service, Gate(config, server.clock, {"KEYS": "me=" + "k" * 32}))
        async with serving(server):
            async with client(server) as raw:
                await raw.hello(key="k" * 32)
            async with client(server) as raw:
                await send_hello(raw, key="wrong" * 8)
                said, code, reason = await raw.to_end()
                assert (code, reason) == (1008, "unauthorized")
                assert "wrong" not in str(said)

    asyncio.run(run())


async def send_hello(raw: RawClient, **asked: object) -> None:
    await raw.connection.send(native.encode(Hello.model_validate({"sample_rate_hz": RATE_HZ, **asked})))


def test_sound_far_faster_than_real_time_is_refused() -> None:
    async def script(server: Server, raw: RawClient) -> None:
        await raw.hello()
        await raw.say(bytes(2 * RATE_HZ * 2))  # two seconds at once, where one is allowed
        assert (await raw.to_end())[1:] == (1008, "too_fast")

    play(script, ServingConfig(limits=LimitsConfig(sound_burst_s=1.0)))
