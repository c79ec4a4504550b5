"""The microphone and the loudspeaker as a conversation's two ends, through the package sounddevice."""

import asyncio
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from paluku.client.session import Conversation
from paluku.errors import AudioError
from paluku.protocol.messages import Interrupted, ReplyAudio

BLOCK_S = 0.005  # how finely frames can be aligned


class Loudspeaker(Protocol):
    """What takes PCM16 and plays it; sounddevice's output stream waits while its buffer is full."""

    def write(self, data: bytes) -> object:
        """Play sound."""
        ...


async def converse(talk: Conversation) -> None:
    """Talk until interrupted from the keyboard: the microphone goes up, the reply to the loudspeaker.

    Use headphones: nothing here removes the loudspeaker's sound from the microphone's.

    Raises:
        AudioError: without sounddevice, or without a device.
    """
    blocks: asyncio.Queue[bytes] = asyncio.Queue()
    with _devices(talk.ready.sample_rate_hz, blocks) as loudspeaker:
        feeding = asyncio.create_task(_feed(talk, blocks))
        try:
            await _play(talk, loudspeaker)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)


async def _feed(talk: Conversation, blocks: "asyncio.Queue[bytes]") -> None:
    while True:
        talk.send(await blocks.get())


async def _play(talk: Conversation, loudspeaker: Loudspeaker) -> None:
    frames: asyncio.Queue[ReplyAudio] = asyncio.Queue()
    playing = asyncio.create_task(_drain(talk, frames, loudspeaker))
    try:
        async for event in talk:
            if isinstance(event, ReplyAudio):
                frames.put_nowait(event)
            elif isinstance(event, Interrupted):
                while not frames.empty():
                    frames.get_nowait()
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


async def _drain(talk: Conversation, frames: "asyncio.Queue[ReplyAudio]", loudspeaker: Loudspeaker) -> None:
    while True:
        frame = await frames.get()
        await asyncio.to_thread(loudspeaker.write, frame.sound)
        talk.played(frame.seq + 1)


@contextmanager
def _devices(rate_hz: int, blocks: "asyncio.Queue[bytes]") -> Iterator[Loudspeaker]:
    library = _library()
    loop = asyncio.get_running_loop()

    def heard(data: Any, *_: Any) -> None:  # in sounddevice's thread
        loop.call_soon_threadsafe(blocks.put_nowait, bytes(data))

    kind: dict[str, Any] = {"samplerate": rate_hz, "channels": 1, "dtype": np.dtype(np.int16).name}
    try:
        with (
            library.RawOutputStream(latency="low", **kind) as loudspeaker,
            library.RawInputStream(blocksize=round(rate_hz * BLOCK_S), callback=heard, **kind),
        ):
            yield loudspeaker
    except library.PortAudioError as error:
        raise AudioError(
            f"the sound devices cannot be used ({error}); choose others in the system"
        ) from error


def _library() -> Any:
    try:
        return importlib.import_module("sounddevice")
    # OSError: the package is there, and PortAudio is not.
    except (ImportError, OSError) as error:
        raise AudioError(
            f"--microphone needs sounddevice ({error}); pip install sounddevice, or give a file"
        ) from None
