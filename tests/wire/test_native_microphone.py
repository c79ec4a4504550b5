"""The microphone's end of a conversation, over sound devices that are not there."""

import asyncio
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from paluku.client.microphone import converse
from paluku.client.session import connect
from paluku.errors import AudioError
from paluku.protocol.messages import Hello
from paluku.streaming.clock import MonotonicClock
from tests.fakes.stages import FRAME_SAMPLES, frame
from tests.wire.server import RATE_HZ, Server, serving, until


class Devices(ModuleType):
    """A `sounddevice` whose microphone hears three frames, in blocks, and whose loudspeaker keeps all."""

    PortAudioError = OSError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.played: list[bytes] = []
        self.fails = False

    def RawInputStream(self, callback: Callable[..., None], blocksize: int, **_: Any) -> "Stream":  # noqa: N802
        sound = b"".join(frame(number) for number in (1, 2, 3))
        size = 2 * blocksize
        blocks = [sound[start : start + size] for start in range(0, len(sound), size)]

        def speak() -> None:
            for block in blocks:
                callback(block, blocksize, None, None)

        return Stream(self, threading.Thread(target=speak))

    def RawOutputStream(self, **_: Any) -> "Stream":  # noqa: N802
        if self.fails:
            raise OSError("no device")
        return Stream(self, None)


class Stream:
    def __init__(self, devices: Devices, thread: threading.Thread | None) -> None:
        self._devices = devices
        self._thread = thread

    def write(self, data: bytes) -> None:
        self._devices.played.append(data)

    def __enter__(self) -> "Stream":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Devices:
    fake = Devices()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def test_what_the_microphone_hears_comes_out_of_the_loudspeaker(devices: Devices) -> None:
    async def run() -> None:
        server = Server(clock=MonotonicClock())
        async with (
            serving(server),
            connect(server.url, Hello(sample_rate_hz=RATE_HZ), aligns=False) as talk,
        ):
            talking = asyncio.create_task(converse(talk))
            await until(lambda: len(devices.played) == 3 or talking.done())
            await until(lambda: next(iter(server.service._sessions.values()))._played == 3)
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert {len(sound) for sound in devices.played} == {2 * FRAME_SAMPLES}
    assert devices.played[1:] == [frame(1), frame(2)]


def test_without_a_device_it_is_said(devices: Devices) -> None:
    devices.fails = True

    async def run() -> None:
        server = Server(clock=MonotonicClock())
        async with serving(server), connect(server.url, Hello(sample_rate_hz=RATE_HZ)) as talk:
            with pytest.raises(AudioError, match="the sound devices cannot be used"):
                await converse(talk)

    asyncio.run(asyncio.wait_for(run(), 60))
