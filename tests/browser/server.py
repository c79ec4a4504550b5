"""The real application with its page on a loopback port, in a thread of its own, beside a browser's.

Its stages answer speech: a tone of the chosen voice, and words, half a second after the user fell silent.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import uvicorn

from paluku.cluster.ports import free_ports
from paluku.serving.app import build_app
from paluku.serving.config import ServingConfig
from paluku.serving.gate import Gate
from paluku.serving.service import Service
from paluku.serving.session import Session
from paluku.streaming.clock import MonotonicClock
from paluku.streaming.ports import FIRST_CODE, Batch, Conditions
from paluku.streaming.turns import TurnConfig
from paluku.streaming.vad import VadWorker
from paluku.tokens.text import PAD, default_tokenizer
from paluku.voices import VOICES
from tests.fakes.stages import (
    BUNDLE,
    FRAME_SAMPLES,
    FakeConverse,
    FakeDecode,
    FakeEncode,
    FakeFleet,
    FakeReplica,
    FakeSnapshots,
    K,
)
from tests.fakes.vad import FakeVad

RATE_HZ = 16_000
LOUD = 1_000
PAUSE_FRAMES = 12  # the user's silence after which it answers
REPLY_FRAMES = 200  # eight seconds
REPLY, UNDERSTOOD = "నమస్తే! నేను బాగున్నాను.", "ఎలా ఉన్నారు?"
# So that any half second of loud sound over the reply interrupts it.
TURNS = TurnConfig(interrupt_sounds=0)
Given = TypeVar("Given")


class Level(FakeEncode):
    """A frame's codes are whether it is loud."""

    def step(self, batch: Batch) -> Batch:
        loud = np.abs(batch.payload.astype(int)).max(axis=1) > LOUD
        return Batch(batch.seats, np.repeat(loud[:, None], K, axis=1).astype(np.int16))


class Answering(FakeConverse):
    """Codes of a reply name the voice (from 1) while it speaks, else 0; its words come one token a frame."""

    def __init__(self, num_seats: int) -> None:
        super().__init__(num_seats)
        self._silent = np.full(num_seats, -1)  # frames since the user fell silent; -1 before any speech
        self._left = np.zeros(num_seats, int)  # frames of reply to come
        self._words = default_tokenizer().encode(REPLY)
        self._asked = default_tokenizer().encode(UNDERSTOOD)

    def open(self, seat: int, conditions: Conditions) -> None:
        super().open(seat, conditions)
        self._silent[seat], self._left[seat] = -1, 0

    def step(self, batch: Batch) -> Batch:
        rows = [self._answer(int(seat), bool(row[0])) for seat, row in zip(*batch, strict=True)]
        return Batch(batch.seats, np.array(rows, np.int16))

    def _answer(self, seat: int, is_loud: bool) -> list[int]:
        silent = 0 if is_loud else self._silent[seat] + (self._silent[seat] >= 0)
        self._silent[seat] = silent
        heard = self._asked[silent - 1] if 0 < silent <= min(len(self._asked), PAUSE_FRAMES) else PAD
        if silent == PAUSE_FRAMES:
            self._left[seat] = REPLY_FRAMES
        said = REPLY_FRAMES - self._left[seat]
        own, voice = PAD, 0
        if self._left[seat]:
            self._left[seat] -= 1
            own = self._words[said] if said < len(self._words) else PAD
            voice = 1 + VOICES.index(self.open_seats[seat].voice)
        return [own, heard, *[voice] * (FIRST_CODE + K - 2)]


class Tones(FakeDecode):
    """A tone of 300, 400, 500 or 600 Hz by voice; nothing for 0."""

    def step(self, batch: Batch) -> Batch:
        phase = 2 * np.pi * np.arange(FRAME_SAMPLES) / RATE_HZ
        voices = batch.payload[:, :1].astype(float)
        tones = 8_000 * np.sin((200 + 100 * voices) * phase) * (voices > 0)
        return Batch(batch.seats, tones.astype(np.int16))


class Site:
    """A running application: its address, and its parts, to be asked in its own thread."""

    def __init__(self, num_seats: int, keys: str, config: ServingConfig) -> None:
        kinds: dict[str, Callable[[int], Any]] = {"encode": Level, "converse": Answering, "decode": Tones}
        fleets = []
        for kind, make in kinds.items():
            replica = FakeReplica(kind, num_seats)
            replica.bundles = {BUNDLE: make(num_seats)}
            fleets.append(FakeFleet(replica))
        clock = MonotonicClock()
        self.service = Service(fleets, FakeSnapshots(), config, clock, lambda _: VadWorker(FakeVad(LOUD)))
        self.gate = Gate(config, clock, {"PALUKU_KEYS": keys} if keys else {})
        self.port = free_ports(1)[0]
        self.loop = asyncio.new_event_loop()
        settings = uvicorn.Config(
            build_app(self.service, self.gate), port=self.port, log_config=None, timeout_graceful_shutdown=2
        )
        self.http = uvicorn.Server(settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, what: Callable[[], Given]) -> Given:
        """Call something in the server's thread."""

        async def call() -> Given:
            return what()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(30)

    @property
    def stats(self) -> dict[str, Any]:
        return self.ask(self.service.stats)

    @property
    def sessions(self) -> list[Session]:
        return self.ask(lambda: list(self.service._sessions.values()))

    def cut(self) -> None:
        """Every TCP connection is gone without a word."""

        def abort() -> None:
            for connection in list(self.http.server_state.connections):
                connection.transport.abort()

        self.ask(abort)


@contextmanager
def site(num_seats: int = 2, keys: str = "", config: ServingConfig | None = None) -> Iterator[Site]:
    running = Site(num_seats, keys, config or ServingConfig(turns=TURNS))
    thread = threading.Thread(target=lambda: running.loop.run_until_complete(running.http.serve()))
    thread.start()
    while not running.http.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    try:
        yield running
    finally:
        running.http.should_exit = True
        thread.join(30)
        running.loop.close()
