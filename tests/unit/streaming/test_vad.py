"""The detector hears speech, sessions do not mix, and the worker keeps order and its bound."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping

import numpy as np
import pytest

from paluku.audio import resample, to_pcm16
from paluku.corpus.voices.espeak import Espeak
from paluku.corpus.voices.port import Prosody
from paluku.streaming.vad import MAX_WAITING, SileroVad, Vad, VadWorker
from paluku.units import frame_samples
from tests.fakes.vad import FakeVad

# The utterance, one second of silence before it and after it.
TEXT = "నమస్కారం, మీరు ఎలా ఉన్నారు"


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, int]:
    speech = Espeak().speak(TEXT, "f2", Prosody(pitch_semitones=1.2))
    return speech.wave, speech.rate_hz


def frames(spoken: tuple[np.ndarray, int], rate_hz: int) -> np.ndarray:
    wave = np.pad(resample(*spoken, rate_hz), rate_hz)
    samples = frame_samples(rate_hz)
    return to_pcm16(wave[: len(wave) // samples * samples]).reshape(-1, samples)


def judged(vad: Vad, pcm: np.ndarray, key: str = "a") -> np.ndarray:
    return np.array([vad.probabilities({key: frame})[key] for frame in pcm])


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_speech_is_told_from_silence_at_any_rate(spoken: tuple[np.ndarray, int], rate_hz: int) -> None:
    pcm = frames(spoken, rate_hz)
    speech = judged(SileroVad(rate_hz), pcm) > 0.5
    assert not speech[:25].any()
    assert speech[25:29].any(), "found within four frames of its start"
    assert speech[27:-27].mean() > 0.85
    assert not speech[-18:].any()


def test_noise_is_no_speech() -> None:
    noise = (np.random.default_rng(0).standard_normal((50, 640)) * 1_000).astype(np.int16)
    assert (judged(SileroVad(16_000), noise) < 0.5).all()


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
def test_a_session_is_judged_by_its_own_sound_alone(spoken: tuple[np.ndarray, int], rate_hz: int) -> None:
    pcm = frames(spoken, rate_hz)[20:50]
    alone = judged(SileroVad(rate_hz), pcm)
    vad = SileroVad(rate_hz)
    together = []
    for number, frame in enumerate(pcm):
        others = {f"other {i}": pcm[(number + 7 * i) % len(pcm)] for i in range(number % 4)}
        together.append(vad.probabilities({**others, "a": frame})["a"])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_forgotten_session_is_fresh(spoken: tuple[np.ndarray, int]) -> None:
    pcm = frames(spoken, 16_000)[20:40]
    vad = SileroVad(16_000)
    first = judged(vad, pcm)
    vad.forget("a")
    vad.forget("nobody")
    assert judged(vad, pcm).tolist() == first.tolist()


def test_nobody_to_judge() -> None:
    assert SileroVad(16_000).probabilities({}) == {}


def test_it_needs_no_torch() -> None:
    code = "import sys, paluku.streaming.vad as v; v.SileroVad(16_000); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="platform")


class Held(FakeVad):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.asked: list[list[str]] = []

    def probabilities(self, frames: Mapping[str, np.ndarray]) -> dict[str, float]:
        self.go.wait()
        self.asked.append(sorted(frames))
        return super().probabilities(frames)


LOUD, QUIET = np.full(640, 9_000, np.int16), np.zeros(640, np.int16)


def test_worker_answers_and_forgets_in_order() -> None:
    async def run() -> None:
        vad = Held()
        worker = VadWorker(vad)
        answers = [worker.submit({"a": LOUD}), worker.submit({"a": QUIET, "b": LOUD})]
        worker.forget("a")
        assert not any(answer.done() for answer in answers)
        vad.go.set()
        assert await asyncio.gather(*answers) == [{"a": 1.0}, {"a": 0.0, "b": 1.0}]
        await worker.submit({"c": LOUD})
        assert vad.asked == [["a"], ["a", "b"], ["c"]]
        assert vad.forgotten == ["a"]
        worker.close()

    asyncio.run(run())


def test_a_worker_that_is_behind_repeats_what_it_last_said() -> None:
    async def run() -> None:
        vad = Held()
        worker = VadWorker(vad)
        vad.go.set()
        await worker.submit({"a": LOUD})
        await asyncio.sleep(0)  # its callback
        vad.go.clear()
        waiting = [worker.submit({"a": QUIET}) for _ in range(MAX_WAITING)]
        assert await worker.submit({"a": QUIET, "new": LOUD}) == {"a": 1.0, "new": 0.0}
        assert worker.skipped == 1
        vad.go.set()
        assert await asyncio.gather(*waiting) == [{"a": 0.0}] * MAX_WAITING
        await asyncio.sleep(0)
        assert await worker.submit({"a": LOUD}) == {"a": 1.0}
        assert worker.skipped == 1
        worker.close()

    asyncio.run(run())


def test_a_failing_model_is_the_callers_to_see() -> None:
    async def run() -> None:
        worker = VadWorker(SileroVad(16_000))
        with pytest.raises(Exception, match=r"dimension|concatenat|index|shape"):
            await worker.submit({"a": np.zeros((2, 640), np.int16)})
        worker.close()

    asyncio.run(run())
