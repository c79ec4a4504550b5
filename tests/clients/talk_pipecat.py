"""Pipecat's OpenAI realtime service holds a conversation, in a pipeline: `talk_pipecat.py PORT KEY`."""

import asyncio
import json
import math
import struct
import sys

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

TONE = struct.pack("<9600h", *(int(8000 * math.sin(n / 10)) for n in range(9600)))
SPEECH = TONE + bytes(19200)


class Ends(FrameProcessor):
    """Keeps what passes on its way down (or up), by kind."""

    def __init__(self, direction: FrameDirection) -> None:
        super().__init__()
        self._direction = direction
        self.seen: list = []

    async def process_frame(self, frame, direction) -> None:
        await super().process_frame(frame, direction)
        if direction == self._direction:
            self.seen.append(frame)
        await self.push_frame(frame, direction)

    def of(self, kind: type) -> list:
        return [frame for frame in self.seen if isinstance(frame, kind)]

    async def until(self, kind: type, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.of(kind)) < count:
                await asyncio.sleep(0.01)


async def talk(worker: PipelineWorker, down: Ends, up: Ends, ready: asyncio.Event) -> dict[str, object]:
    await asyncio.wait_for(ready.wait(), 10)
    await asyncio.sleep(0.3)  # the session is configured in the background
    speech = InputAudioRawFrame(audio=SPEECH, sample_rate=24_000, num_channels=1)
    await worker.queue_frame(speech)
    await down.until(TTSStoppedFrame, 1)
    whole = sum(len(frame.audio) for frame in down.of(TTSAudioRawFrame))
    report: dict[str, object] = {"bytes": whole, "text": "".join(f.text for f in down.of(TTSTextFrame))}
    await worker.queue_frame(speech)
    await down.until(TTSAudioRawFrame, len(down.of(TTSAudioRawFrame)) + 1)
    await worker.queue_frame(InterruptionFrame())
    await asyncio.sleep(0.3)
    stopped = len(down.of(TTSStoppedFrame))
    await worker.queue_frame(speech)
    await down.until(TTSStoppedFrame, stopped + 1)
    report["interrupted"] = stopped
    await asyncio.sleep(1.5)  # the reply to the last speech is over
    context = LLMContext([{"role": "user", "content": "Hello"}])
    await worker.queue_frame(LLMContextFrame(context))
    await up.until(ErrorFrame, 1)
    report["errors"] = [frame.error for frame in up.of(ErrorFrame)]
    replies = len(down.of(TTSTextFrame))
    await worker.queue_frame(speech)  # the talk goes on
    await down.until(TTSTextFrame, replies + 1)
    await worker.queue_frame(EndFrame())
    return report


async def main(port: int, key: str) -> None:
    properties = events.SessionProperties(
        audio=events.AudioConfiguration(input=events.AudioInput(turn_detection=events.TurnDetection()))
    )
    service = OpenAIRealtimeLLMService(
        api_key=key,
        base_url=f"ws://127.0.0.1:{port}/v1/realtime",
        settings=OpenAIRealtimeLLMService.Settings(model="gpt-realtime", session_properties=properties),
    )
    down, up = Ends(FrameDirection.DOWNSTREAM), Ends(FrameDirection.UPSTREAM)
    worker = PipelineWorker(Pipeline([up, service, down]), cancel_on_idle_timeout=False)
    ready = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def _(worker, frame) -> None:
        ready.set()

    runner = WorkerRunner()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        report = await talk(worker, down, up, ready)
        await asyncio.wait_for(running, 10)
    except BaseException:
        print([type(f).__name__ for f in down.seen + up.seen][-60:], file=sys.stderr)
        raise
    print(json.dumps(report))
    assert report["bytes"] >= 25 * 1920, report
    assert report["text"], report
    assert len(report["errors"]) == 1, report
    assert "follows no text" in report["errors"][0], report


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
