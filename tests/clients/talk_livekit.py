"""LiveKit's OpenAI plugin holds a conversation, without a LiveKit server: `talk_livekit.py PORT KEY`."""

import asyncio
import json
import math
import struct
import sys

import aiohttp
from livekit import rtc
from livekit.plugins.openai.realtime import RealtimeModel

TONE = struct.pack("<9600h", *(int(8000 * math.sin(n / 10)) for n in range(9600)))
SPEECH = TONE + bytes(19200)


async def collect(generation) -> tuple[str, int]:
    """A generation's transcript and how many samples it spoke."""
    text, samples = "", 0
    async for message in generation.message_stream:
        async for frame in message.audio_stream:
            samples += frame.samples_per_channel
        async for piece in message.text_stream:
            text += piece
    return text, samples


async def main(port: int, key: str) -> None:
    report: dict[str, object] = {}
    errors: list[str] = []
    async with aiohttp.ClientSession() as http:
        model = RealtimeModel(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, http_session=http)
        session = model.session()
        generations: asyncio.Queue = asyncio.Queue()
        heard: list[str] = []
        session.on("generation_created", generations.put_nowait)
        session.on("input_speech_started", lambda _: heard.append("started"))
        session.on("input_speech_stopped", lambda _: heard.append("stopped"))
        session.on("error", lambda error: errors.append(str(error.error)))
        metrics: list = []
        session.on("metrics_collected", metrics.append)

        def speak() -> None:
            session.push_audio(rtc.AudioFrame(SPEECH, 24_000, 1, len(SPEECH) // 2))

        await session.update_instructions("Be kind.")
        speak()
        report["transcript"], report["samples"] = await collect(await asyncio.wait_for(generations.get(), 10))
        report["heard"] = heard[:2]
        speak()
        cut = await asyncio.wait_for(generations.get(), 10)
        await asyncio.sleep(0.1)
        session.interrupt()
        report["interrupted_samples"] = (await asyncio.wait_for(collect(cut), 10))[1]
        session.push_audio(rtc.AudioFrame(TONE, 24_000, 1, len(TONE) // 2))
        asked = await asyncio.wait_for(session.generate_reply(instructions="Greet."), 10)
        report["user_initiated"] = asked.user_initiated
        _, report["asked_samples"] = await asyncio.wait_for(collect(asked), 10)
        while len(metrics) < 3:
            await asyncio.sleep(0.01)
        report["output_tokens"] = max(found.output_tokens for found in metrics)
        context = session.chat_ctx.copy()
        context.add_message(role="user", content="Hello")
        await asyncio.wait_for(session.update_chat_ctx(context), 10)
        report["items"] = len(session.chat_ctx.items)
        await asyncio.wait_for(collect(await asyncio.wait_for(session.generate_reply(), 10)), 10)
        while not errors:
            await asyncio.sleep(0.01)
        report["errors"] = errors
        await session.aclose()
    print(json.dumps(report))
    assert report["transcript"], report
    assert report["samples"] > report["interrupted_samples"], report
    assert report["heard"] == ["started", "stopped"], report
    assert report["user_initiated"], report
    assert report["asked_samples"], report
    assert report["output_tokens"], report
    assert len(errors) == 1, report  # the text's failed response, and nothing else


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
