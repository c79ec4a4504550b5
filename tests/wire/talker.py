"""A service without stages: its sessions answer each stretch of loud sound with a second of tone and a word.

Stands in for `paluku.serving.service.Service` behind the Realtime adapter, many times faster than real time.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from starlette.websockets import WebSocket

from paluku.errors import SeatsExhausted
from paluku.protocol.messages import CloseCode
from paluku.serving.config import ServingConfig
from paluku.serving.events import Ending, Event, Interrupted, ReplyFrame, ReplySpeech, UserSpeech
from paluku.serving.gate import Gate
from paluku.serving.realtime import Realtime
from paluku.streaming.clock import MonotonicClock
from paluku.streaming.ports import Conditions

KEY = "pk_stock-clients-know-this-key"
PATHS = ("/v1/realtime", "/openai/v1/realtime")
RATE_HZ, FRAME_SAMPLES = 16_000, 640
FRAME_BYTES = 2 * FRAME_SAMPLES
LOUD = 500
HANGOVER_FRAMES = 5
REPLY_FRAMES = 25
WORD = "నమస్తే"
TONE = (8000 * np.sin(2 * np.pi * 400 * np.arange(FRAME_SAMPLES) / RATE_HZ)).astype(np.int16)


class FakeSession:
    """The session API, with one frame a tick."""

    def __init__(self, session_id: str, conditions: Conditions, max_waiting: int) -> None:
        self.session_id = session_id
        self.conditions = conditions
        self.turn_taking = "semantic"
        self.free_running = False
        self.outbox: asyncio.Queue[Event] = asyncio.Queue()
        self.cut = asyncio.Event()
        self.ending: Ending | None = None
        self.frames = 0
        self.forgotten = 0
        self.interrupts = 0
        self.heard = bytearray()
        self._sound = bytearray()
        self._max_waiting = max_waiting
        self._user_silent_for: int | None = None
        self._reply_left = 0

    def hear(self, pcm: bytes, now_s: float) -> None:
        self._sound += pcm
        self.heard += pcm
        if len(self._sound) > 50 * FRAME_BYTES:
            self.end(Ending.of(CloseCode.POLICY, "too_fast", "too much sound waits"))

    def interrupt(self) -> None:
        self.interrupts += 1
        self._stop_reply()

    def adjust(self, conditions: Conditions) -> None:
        self.conditions = conditions

    def forget(self) -> None:
        self.forgotten += 1

    def end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self.outbox.put_nowait(ending)

    def cut_off(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
        self.cut.set()

    def tick(self) -> None:
        pcm = self._next()
        if pcm is None or self.ending is not None:
            return
        self._listen(bool(np.abs(pcm.astype(int)).mean() > LOUD))
        self._reply()
        self.frames += 1
        if self.outbox.qsize() > self._max_waiting:
            self.cut_off(Ending.of(CloseCode.POLICY, "slow_reader", "the client does not read"))

    def _next(self) -> np.ndarray | None:
        if len(self._sound) >= FRAME_BYTES:
            pcm = np.frombuffer(bytes(self._sound[:FRAME_BYTES]), "<i2")
            del self._sound[:FRAME_BYTES]
            return pcm
        return np.zeros(FRAME_SAMPLES, np.int16) if self.free_running else None

    def _listen(self, loud: bool) -> None:
        if loud and self._user_silent_for is None:
            self.outbox.put_nowait(UserSpeech(True, self.frames))
            if self.turn_taking == "vad" and self._reply_left:
                self._stop_reply()
        if loud:
            self._user_silent_for = 0
        elif self._user_silent_for is not None:
            self._user_silent_for += 1
            if self._user_silent_for >= HANGOVER_FRAMES:
                self._user_silent_for = None
                self.outbox.put_nowait(UserSpeech(False, self.frames))
                self._reply_left = REPLY_FRAMES

    def _reply(self) -> None:
        if not self._reply_left:
            silence = np.zeros(FRAME_SAMPLES, np.int16)
            self.outbox.put_nowait(ReplyFrame(self.frames, silence, True, False, "", 0.0))
            return
        if self._reply_left == REPLY_FRAMES:
            self.outbox.put_nowait(ReplySpeech(True, self.frames))
        text = WORD if self._reply_left == REPLY_FRAMES else ""
        self.outbox.put_nowait(ReplyFrame(self.frames, TONE, True, True, text, 0.0))
        self._reply_left -= 1
        if not self._reply_left:
            self.outbox.put_nowait(ReplySpeech(False, self.frames + 1))

    def _stop_reply(self) -> None:
        if self._reply_left:
            self._reply_left = 0
            self.outbox.put_nowait(Interrupted(self.frames))
            self.outbox.put_nowait(ReplySpeech(False, self.frames))


class FakeService:
    """As many seats as it is told, and a tick of its own."""

    def __init__(
        self, num_seats: int = 4, tick_s: float = 0.004, config: ServingConfig | None = None
    ) -> None:
        self.config = config or ServingConfig()
        self.clock = MonotonicClock()
        self.card = SimpleNamespace(bundle="stand-in", sample_rate_hz=RATE_HZ, frame_samples=FRAME_SAMPLES)
        self.endings: list[str] = []
        self.sessions: list[FakeSession] = []
        self.opened = 0
        self._num_seats = num_seats
        self._tick_s = tick_s

    @asynccontextmanager
    async def attached(self, conditions: Conditions) -> AsyncIterator[FakeSession]:
        if len(self.sessions) >= self._num_seats:
            raise SeatsExhausted("all seats are taken; try again in 5 s", 5.0)
        self.opened += 1
        session = FakeSession(f"s{self.opened}", conditions, self.config.max_waiting_messages)
        self.sessions.append(session)
        ticking = asyncio.create_task(self._run(session))
        try:
            yield session
        finally:
            ticking.cancel()
            self.sessions.remove(session)

    def ended(self, ending: Ending) -> None:
        self.endings.append(ending.code)

    async def _run(self, session: FakeSession) -> None:
        while True:
            session.tick()
            await asyncio.sleep(self._tick_s)


def build_app(service: Any, config: ServingConfig) -> FastAPI:
    app, gate = FastAPI(), Gate(config, MonotonicClock(), {"PALUKU_KEYS": f"clients={KEY}"})

    async def talk(websocket: WebSocket) -> None:
        await Realtime(websocket, service, gate).run()

    for path in PATHS:
        app.add_api_websocket_route(path, talk)
    return app


@asynccontextmanager
async def serving(service: FakeService) -> AsyncIterator[int]:
    """Gives the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(build_app(service, service.config), log_config=None, timeout_graceful_shutdown=2)
    http = uvicorn.Server(config)
    running = asyncio.create_task(http.serve(sockets=[listener]))
    while not http.started:
        await asyncio.sleep(0.001)
    try:
        yield listener.getsockname()[1]
    finally:
        http.should_exit = True
        await running
        listener.close()
