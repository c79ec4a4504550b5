"""Silero VAD (https://github.com/snakers4/silero-vad, MIT): its ONNX files run by onnxruntime, no torch.

The model judges windows of 512 samples at 16 kHz (32 ms) behind 64 samples of context, and carries an
LSTM's two vectors from window to window. The package ships the same weights as two graphs: `StepModel`
takes one window of many sessions, `SpeechDetector` a whole recording.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import soxr

from paluku.errors import ServiceError

MODEL_RATE_HZ = 16_000
CONTEXT_SAMPLES, WINDOW_SAMPLES = 64, 512
HEARD_SAMPLES = CONTEXT_SAMPLES + WINDOW_SAMPLES
WINDOW_S = WINDOW_SAMPLES / MODEL_RATE_HZ
STATE_SHAPE = (2, 128)  # an LSTM's two vectors

_STEP_FILE = "data/silero_vad_16k_op15.onnx"
_SEQUENCE_FILE = "data/silero_vad_16k_sequence.onnx"

# Windows a call: 16 s. Less costs calls, more costs memory (2,048 windows: 40 MB and 10 % of the speed).
BLOCK_WINDOWS = 512


class StepModel:
    """One window of each of B sessions; the caller keeps the states."""

    def __init__(self) -> None:
        self._model = _load(_STEP_FILE)

    def step(self, heard: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32 `[B]` and next states, from `[B, 576]` and float32 states `[2, B, 128]`."""
        feed = {"input": heard, "state": states, "sr": np.array(MODEL_RATE_HZ, np.int64)}
        speech, states = (np.asarray(output) for output in self._model.run(None, feed))
        return speech[:, 0], states


class SpeechDetector:
    """How likely each 32 ms of a recording hold speech: 4 CPU seconds an hour of sound.

    It keeps nothing between recordings: the same wave gives the same answers.
    """

    window_s = WINDOW_S

    def __init__(self) -> None:
        self._model = _load(_SEQUENCE_FILE)

    def probabilities(self, wave: np.ndarray, rate_hz: int) -> np.ndarray:
        """Float32 `[ceil(seconds / 0.032)]`, 0 to 1, of a mono float32 `[S]`; window k begins at 32 k ms.

        Memory beyond the answer does not grow with the recording.
        """
        hidden = cell = np.zeros((1, 1, STATE_SHAPE[1]), np.float32)
        answers = [np.zeros(0, np.float32)]
        for heard in _blocks(wave, rate_hz):
            speech, hidden, cell = self._model.run(None, {"input": heard, "h": hidden, "c": cell})
            answers.append(np.asarray(speech))
        num_windows = int(np.ceil(len(wave) / rate_hz / WINDOW_S))
        return np.concatenate(answers)[:num_windows]


def _blocks(wave: np.ndarray, rate_hz: int) -> Iterator[np.ndarray]:
    """Overlapping windows `[<= BLOCK_WINDOWS, 576]` at the model's rate, silence before and after."""
    behind = np.zeros(CONTEXT_SAMPLES, np.float32)
    for block in _regular(wave, rate_hz):
        line = np.concatenate([behind, np.pad(block, (0, -len(block) % WINDOW_SAMPLES))])
        behind = line[-CONTEXT_SAMPLES:]
        windows = np.lib.stride_tricks.sliding_window_view(line, HEARD_SAMPLES)[::WINDOW_SAMPLES]
        yield np.ascontiguousarray(windows)


def _regular(wave: np.ndarray, rate_hz: int) -> Iterator[np.ndarray]:
    """The wave at 16 kHz in blocks of `BLOCK_WINDOWS` windows; the last one is what is left."""
    block_samples = BLOCK_WINDOWS * WINDOW_SAMPLES
    if rate_hz == MODEL_RATE_HZ:
        for start in range(0, len(wave), block_samples):
            yield wave[start : start + block_samples]
        return
    stream = soxr.ResampleStream(rate_hz, MODEL_RATE_HZ, 1, dtype="float32", quality="LQ")
    waiting = np.zeros(0, np.float32)
    for start in range(0, len(wave), block_samples):
        part = wave[start : start + block_samples]
        converted = stream.resample_chunk(part, last=start + block_samples >= len(wave))
        waiting = np.concatenate([waiting, converted])
        while len(waiting) >= block_samples:
            yield waiting[:block_samples]
            waiting = waiting[block_samples:]
    if len(waiting):
        yield waiting


def _load(file: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(_model_file(file), options, providers=["CPUExecutionProvider"])


def _model_file(file: str) -> Path:
    # The package's own import would load torch.
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        raise ServiceError("the package silero-vad is not installed; pip install 'silero-vad>=6.2'")
    path = Path(found.submodule_search_locations[0]) / file
    if not path.is_file():
        raise ServiceError(f"{path} is missing; install silero-vad again, in version 6.2 or later")
    return path
