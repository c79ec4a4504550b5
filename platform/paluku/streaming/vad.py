"""Voice activity: how likely the newest sound of each session holds speech.

The model is `paluku.silero`'s. A frame of 40 ms is 640 samples, so each frame gives one window, its
newest 576 samples (512 and their context): 4 ms of each frame are not heard. Windows cut without a gap
would cost 1.25 windows a tick, hear a frame up to 24 ms late, and find less. WebRTC's detector is
cheaper, but takes 6 % of 20 dB and 40 % of 5 dB pink noise for speech, where this one takes none, and
misses more: docs/benchmarks/2026-11-21-turns.md.

One tick costs 0.2 ms for 1 session, 1 ms for 12, 6 ms for 100, mostly outside Python's lock: `VadWorker`
spends it in a thread of its own while the stages step the same frames.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import soxr

from paluku.audio import from_pcm16
from paluku.silero import HEARD_SAMPLES, MODEL_RATE_HZ, STATE_SHAPE, StepModel

# Ticks that may wait for the thread: behind them a session keeps the probability it had.
MAX_WAITING = 4


@runtime_checkable
class Vad(Protocol):
    """Judges one frame of many sessions at once. Law: a session's answers depend on its own sound alone."""

    def probabilities(self, frames: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How likely each session speaks, 0 to 1, from its next frame, int16 `[S]`."""
        ...

    def forget(self, key: str) -> None:
        """A session has ended or begins anew; nothing happens when it is not known."""
        ...


class _Ear(NamedTuple):
    """What is kept of one session."""

    state: np.ndarray  # float32 [2, 128]
    newest: np.ndarray  # float32 [576] at the model's rate
    resampler: soxr.ResampleStream | None


class SileroVad:
    """Implements `Vad`. Sessions' sound of another rate than 16 kHz is resampled, each in its own stream."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self._model = StepModel()
        self._ears: dict[str, _Ear] = {}

    def probabilities(self, frames: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How likely each session speaks, from its next frame, int16 `[S]`."""
        if not frames:
            return {}
        ears = [self._hear(key, pcm) for key, pcm in frames.items()]
        newest = np.stack([ear.newest for ear in ears])
        speech, state = self._model.step(newest, np.stack([ear.state for ear in ears], axis=1))
        for row, (key, ear) in enumerate(zip(frames, ears, strict=True)):
            self._ears[key] = ear._replace(state=state[:, row])
        return dict(zip(frames, speech.tolist(), strict=True))

    def forget(self, key: str) -> None:
        """Drop a session's state."""
        self._ears.pop(key, None)

    def _hear(self, key: str, pcm: np.ndarray) -> _Ear:
        ear = self._ears.get(key) or self._fresh()
        # No more of a long frame than is heard need be converted, unless a resampler counts on it.
        wave = from_pcm16(pcm if ear.resampler else pcm[-HEARD_SAMPLES:])
        if ear.resampler:
            wave = ear.resampler.resample_chunk(wave)
        return ear._replace(newest=np.concatenate([ear.newest, wave])[-HEARD_SAMPLES:])

    def _fresh(self) -> _Ear:
        resampler = None
        if self._rate_hz != MODEL_RATE_HZ:
            resampler = soxr.ResampleStream(self._rate_hz, MODEL_RATE_HZ, 1, dtype="float32", quality="LQ")
        return _Ear(np.zeros(STATE_SHAPE, np.float32), np.zeros(HEARD_SAMPLES, np.float32), resampler)


class VadWorker:
    """A `Vad` in a thread of its own: asked at the tick, answered while the stages work.

    Calls are taken in their order. When the thread falls behind by `MAX_WAITING` ticks, frames pass
    unheard and their sessions keep their last probability; `skipped` counts those ticks.
    """

    def __init__(self, vad: Vad) -> None:
        self._is_closed = False
        self._vad = vad
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vad")
        self._waiting = 0
        self._last: dict[str, float] = {}
        self.skipped = 0

    def submit(self, frames: Mapping[str, np.ndarray]) -> asyncio.Future[dict[str, float]]:
        """Ask for the probabilities of one frame a session; call it in a running event loop."""
        loop = asyncio.get_running_loop()
        if self._waiting >= MAX_WAITING:
            self.skipped += 1
            answer: asyncio.Future[dict[str, float]] = loop.create_future()
            answer.set_result({key: self._last.get(key, 0.0) for key in frames})
            return answer
        self._waiting += 1
        answer = loop.run_in_executor(self._thread, self._vad.probabilities, frames)
        answer.add_done_callback(self._answered)
        return answer

    def forget(self, key: str) -> None:
        """Forget a session, behind what was asked before."""
        self._last.pop(key, None)
        if not self._is_closed:
            self._thread.submit(self._vad.forget, key)

    def close(self) -> None:
        """Take no more; what waits is dropped."""
        self._is_closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answered(self, answer: asyncio.Future[dict[str, float]]) -> None:
        self._waiting -= 1
        if not answer.cancelled() and answer.exception() is None:
            self._last = answer.result()
