"""A whole recording is judged as its windows are one by one, in any blocks and from any rate."""

import numpy as np
import pytest
import soxr

from paluku.silero import (
    BLOCK_WINDOWS,
    CONTEXT_SAMPLES,
    STATE_SHAPE,
    WINDOW_SAMPLES,
    SpeechDetector,
    StepModel,
)
from tests.fakes.speech import speech_like

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector()


def spoken(duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    half = speech_like(0, duration_s / 2, rate_hz)
    return np.concatenate([np.zeros(len(half), np.float32), half])


def one_by_one(wave: np.ndarray) -> np.ndarray:
    model, states = StepModel(), np.zeros((STATE_SHAPE[0], 1, STATE_SHAPE[1]), np.float32)
    line = np.pad(wave, (CONTEXT_SAMPLES, -len(wave) % WINDOW_SAMPLES))
    answers = []
    for start in range(0, len(line) - CONTEXT_SAMPLES, WINDOW_SAMPLES):
        answer, states = model.step(line[None, start : start + CONTEXT_SAMPLES + WINDOW_SAMPLES], states)
        answers.append(answer[0])
    return np.array(answers)


def test_a_recording_is_judged_as_its_windows_are(detector: SpeechDetector) -> None:
    wave = spoken(18.0)[:-100]
    assert len(wave) > BLOCK_WINDOWS * WINDOW_SAMPLES, "more than one block"
    answers = detector.probabilities(wave, RATE_HZ)
    np.testing.assert_allclose(answers, one_by_one(wave), atol=1e-4)
    assert answers.max() > 0.5, "it has heard speech"
    assert (answers[:250] < 0.2).all(), "and silence before it"


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000])
def test_any_rate_is_heard_as_its_resampled_sound_is(detector: SpeechDetector, rate_hz: int) -> None:
    wave = spoken(36.0 if rate_hz == 8_000 else 12.0, rate_hz)  # more than a block of its samples
    expected = detector.probabilities(soxr.resample(wave, rate_hz, RATE_HZ, quality="LQ"), RATE_HZ)
    np.testing.assert_allclose(detector.probabilities(wave, rate_hz), expected, atol=2e-2)


@pytest.mark.parametrize("num_samples", [0, 1, 511, 512, 513, 10_000])
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 24_000])
def test_one_answer_a_window(detector: SpeechDetector, num_samples: int, rate_hz: int) -> None:
    answers = detector.probabilities(np.zeros(num_samples, np.float32), rate_hz)
    assert len(answers) == int(np.ceil(num_samples / rate_hz / 0.032))
    assert (answers < 0.5).all()


def test_nothing_is_kept_between_recordings(detector: SpeechDetector) -> None:
    first = detector.probabilities(spoken(2.0), RATE_HZ)
    assert detector.probabilities(spoken(2.0), RATE_HZ).tolist() == first.tolist()
