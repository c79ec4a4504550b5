"""OpenAI's protocol over a real WebSocket: handshake, a conversation, refusals, endings."""

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from paluku.protocol.realtime.audio import encode
from paluku.serving.config import LimitsConfig, ServingConfig
from tests.wire.talker import KEY, REPLY_FRAMES, WORD, FakeService, serving

Script = Callable[[FakeService, int], Coroutine[Any, Any, None]]
BEARER = {"Authorization": f"Bearer {KEY}"}
# 0.4 s of tone and 0.4 s of silence at 24 kHz.
SPEECH = np.pad((8000 * np.sin(np.arange(9600) / 10)).astype("<i2"), (0, 9600)).tobytes()


def play(script: Script, service: FakeService | None = None) -> None:
    async def run() -> None:
        standing = service or FakeService()
        async with serving(standing) as port:
            await script(standing, port)

    asyncio.run(run())


def talking(port: int, path: str = "/v1/realtime", **options: Any) -> connect:
    headers = options.pop("additional_headers", BEARER)
    url = f"ws://127.0.0.1:{port}{path}?model=gpt-realtime"
    return connect(url, additional_headers=headers, compression=None, proxy=None, **options)


async def say(user: ClientConnection, kind: str, **values: Any) -> None:
    await user.send(json.dumps({"type": kind, **values}))


async def append(user: ClientConnection, pcm: bytes) -> None:
    await say(user, "input_audio_buffer.append", audio=base64.b64encode(pcm).decode())


async def until(user: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Everything up to an event of that type."""
    found = [json.loads(await user.recv())]
    while found[-1]["type"] != kind:
        found.append(json.loads(await user.recv()))
    return found


async def settings(user: ClientConnection, **heard: Any) -> dict[str, Any]:
    await say(user, "session.update", session={"type": "realtime", "audio": {"input": heard}})
    return (await until(user, "session.updated"))[-1]["session"]


@pytest.mark.parametrize("path", ["/v1/realtime", "/openai/v1/realtime"])
def test_speech_is_answered_by_a_response(path: str) -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port, path) as user:
            first = json.loads(await user.recv())
            assert first["type"] == "session.created"
            await append(user, SPEECH)
            events = await until(user, "response.done")
            kinds = [event["type"] for event in events]
            assert kinds[:5] == [
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.done",
            ]
            assert events[-1]["response"]["status"] == "completed"
            deltas = [e["delta"] for e in events if e["type"] == "response.output_audio.delta"]
            sound = b"".join(map(base64.b64decode, deltas))
            assert len(sound) == REPLY_FRAMES * 960 * 2  # every frame, 40 ms at 24 kHz
            said = [e for e in events if e["type"] == "response.output_audio_transcript.done"]
            assert [event["transcript"] for event in said] == [WORD]
        while service.sessions:
            await asyncio.sleep(0.001)
        assert service.endings == ["client_left"]

    play(script)


def test_the_subprotocol_is_selected_and_may_carry_the_key() -> None:
    async def script(service: FakeService, port: int) -> None:
        offered = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-agents-sdk.0.0.1"]
        async with talking(port, additional_headers={}, subprotocols=offered) as user:
            assert user.subprotocol == "realtime"
            assert user.response is not None
            assert KEY not in str(user.response.headers)
        async with talking(port) as user:
            assert user.subprotocol is None

    play(script)


def test_a_wrong_key_is_401_and_no_seat_is_503_with_when_to_come_back() -> None:
    async def script(service: FakeService, port: int) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with talking(port, additional_headers={"Authorization": "Bearer wrong"}):
                pass
        assert refused.value.response.status_code == 401
        async with talking(port):
            with pytest.raises(InvalidStatus) as refused:
                async with talking(port):
                    pass
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "5"
        assert service.endings[:2] == ["unauthorized", "no_seat"]

    play(script, FakeService(num_seats=1))


def test_a_whole_recording_at_once_is_paced_and_answered_when_asked() -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port) as user:
            await settings(user, turn_detection=None)
            await append(user, SPEECH * 5)  # 4 s: twice what a session may hold
            await say(user, "input_audio_buffer.commit")
            await say(user, "response.create")
            events = await until(user, "response.done")
            assert events[-1]["response"]["status"] == "completed"
            assert len([e for e in events if e["type"] == "response.output_audio.delta"]) >= REPLY_FRAMES
            assert not service.sessions[0].free_running

    play(script)


def test_cancelling_stops_the_reply_and_nothing_follows() -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port) as user:
            await append(user, SPEECH)
            await until(user, "response.output_audio.delta")
            await say(user, "response.cancel")
            done = (await until(user, "response.done"))[-1]
            assert done["response"]["status"] == "cancelled"
            await say(user, "response.cancel", event_id="again")
            (answer,) = await until(user, "error")
            assert answer["error"]["code"] == "response_cancel_not_active"
            assert answer["error"]["event_id"] == "again"
            assert service.sessions[0].interrupts == 1

    play(script)


def test_speech_interrupts_a_reply() -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port) as user:
            await append(user, SPEECH)
            await until(user, "response.output_audio.delta")
            await append(user, SPEECH)
            events = await until(user, "response.done")
            assert "input_audio_buffer.speech_started" in [event["type"] for event in events]
            details = events[-1]["response"]["status_details"]
            assert details == {"type": "cancelled", "reason": "turn_detected"}

    play(script, FakeService(tick_s=0.02))


def test_nonsense_is_answered_and_the_talk_goes_on() -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port) as user:
            await user.send("{")
            await user.send(b"\xff\xfe")
            await say(user, "no.such.event")
            codes = [(await until(user, "error"))[-1]["error"]["code"] for _ in range(3)]
            assert codes == ["invalid_json", "invalid_json", "unknown_event"]
            await settings(user, turn_detection={"type": "semantic_vad"})

    play(script)


def test_an_event_that_is_too_large_ends_the_session_with_a_stated_code() -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port) as user:
            await append(user, bytes(2000))
            assert (await until(user, "error"))[-1]["error"]["code"] == "too_big"
            with pytest.raises(ConnectionClosed):
                await user.recv()
            assert (user.close_code, user.close_reason) == (1009, "too_big")

    play(script, FakeService(config=ServingConfig(limits=LimitsConfig(max_event_bytes=1024))))


def test_a_client_that_is_silent_for_too_long_is_told_so() -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port) as user:
            events = await until(user, "error")
            assert events[-1]["error"]["code"] == "idle"

    play(script, FakeService(config=ServingConfig(idle_timeout_s=0.01)))


def test_the_same_talk_in_telephone_sound() -> None:
    async def script(service: FakeService, port: int) -> None:
        async with talking(port) as user:
            sound = {"format": {"type": "audio/pcmu"}}
            update = {"type": "realtime", "audio": {"input": sound, "output": sound}}
            await say(user, "session.update", session=update)
            tone = (8000 * np.sin(np.arange(3200) / 4)).astype(np.int16)
            await append(user, encode("audio/pcmu", tone) + b"\xff" * 3200)
            events = await until(user, "response.done")
            deltas = [e["delta"] for e in events if e["type"] == "response.output_audio.delta"]
            assert len(b"".join(map(base64.b64decode, deltas))) == REPLY_FRAMES * 320

    play(script)
