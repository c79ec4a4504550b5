"""The `openai` SDK holds a conversation: `python talk_openai.py PORT KEY`. Prints what it saw as JSON."""

import asyncio
import base64
import collections
import json
import math
import struct
import sys

from openai import AsyncOpenAI

TONE = struct.pack("<9600h", *(int(8000 * math.sin(n / 10)) for n in range(9600)))
SPEECH = base64.b64encode(TONE + bytes(19200)).decode()  # 0.4 s of tone, 0.4 s of silence


async def main(port: int, key: str) -> None:
    client = AsyncOpenAI(api_key=key, websocket_base_url=f"ws://127.0.0.1:{port}/openai/v1")
    seen: collections.Counter[str] = collections.Counter()
    report: dict[str, object] = {}
    async with client.realtime.connect(model="gpt-realtime") as talk:

        async def until(kind: str):
            while True:
                event = await talk.recv()
                seen[event.type] += 1
                if event.type == kind:
                    return event
                if event.type == "error":
                    raise RuntimeError(event.error.message)

        created = await until("session.created")
        report["model"] = created.session.model
        detection = {"type": "server_vad", "silence_duration_ms": 300}
        audio = {"input": {"turn_detection": detection}, "output": {"voice": "marin"}}
        await talk.session.update(session={"type": "realtime", "instructions": "Be kind.", "audio": audio})
        report["voice"] = (await until("session.updated")).session.audio.output.voice
        await talk.input_audio_buffer.append(audio=SPEECH)
        report["transcript"] = (await until("response.output_audio_transcript.done")).transcript
        report["status"] = (await until("response.done")).response.status
        await talk.input_audio_buffer.append(audio=SPEECH)
        await until("response.output_audio.delta")
        await talk.response.cancel()
        report["cancelled"] = (await until("response.done")).response.status
        # Push to talk.
        await talk.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        await until("session.updated")
        await talk.input_audio_buffer.append(audio=SPEECH)
        await talk.input_audio_buffer.commit()
        await talk.response.create()
        done = (await until("response.done")).response
        report["manual"] = done.status
        report["usage"] = done.usage.output_token_details.audio_tokens
        await talk.conversation.item.truncate(item_id=done.output[0].id, content_index=0, audio_end_ms=0)
        await until("conversation.item.truncated")
        text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
        await talk.conversation.item.create(item=text)
        await talk.response.create()
        report["text"] = (await until("response.done")).response.status_details.error.code
    print(json.dumps({**report, "events": sum(seen.values()), "deltas": seen["response.output_audio.delta"]}))
    assert report["status"] == report["manual"] == "completed", report
    assert (report["cancelled"], report["text"]) == ("cancelled", "text_not_followed"), report
    assert report["voice"] == "priya", report
    assert report["transcript"], report


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
