"""A frozen speech encoder's view of an utterance, one vector for each codec frame of 40 ms.

The encoder is Whisper base's (Radford et al. 2022, https://arxiv.org/abs/2212.04356): 512 values every
20 ms. As in SpeechTokenizer (https://arxiv.org/abs/2308.16692) and Mimi (https://arxiv.org/abs/2410.00037,
section 3.3) such vectors are what a codec's first codebook is taught.

Whisper was trained on windows of 30 s, and pads what is shorter with silence. CTranslate2 takes shorter
windows, at a cost in proportion: every utterance is heard alone, in a window of its own length and a little
silence. On 24 recordings of 5 s in three languages the median cosine to the vectors of a window of 30 s was
0.984 at 58 CPU seconds an hour of speech (535 for windows of 30 s). Utterances that share a window of 30 s
hear each other: 0.62 at best, for 114 to 174 seconds.
"""

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from paluku.errors import ServiceError
from paluku.whisper_base import MODEL_SHA256, model_folder

RATE_HZ = 16_000
FRAME_RATE_HZ = 25
FRAME_SAMPLES = RATE_HZ // FRAME_RATE_HZ
ENCODED_PER_FRAME = 2  # an encoder answers every 20 ms

MAX_FRAMES = 750  # 30 s: the encoder has no positions beyond
TAIL_FRAMES = 13  # 0.52 s of silence after the utterance's end, which else sounds cut off
MIN_FRAMES = 125  # 5 s: the shorter a window, the less its vectors are those of a window of 30 s
CONTEXT_FRAMES = 25  # 1 s heard on either side of a cut in a long utterance, and not kept


class SpeechEncoder(Protocol):
    """What hears."""

    @property
    def digest(self) -> str:
        """Names the weights, in hex."""
        ...

    @property
    def width(self) -> int:
        """Values in a vector."""
        ...

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """Float32 `[2 T, width]` of a wave at 16 kHz of `T` whole frames of 40 ms, `T <= 750`.

        Vector j is of the 20 ms that begin at 20 j ms, and is centred on them.
        """
        ...


class WhisperEncoder:
    """Whisper base's encoder on one core, in float32. The weights are read at the first utterance.

    Raises:
        CheckpointError: when the weights are not installed.
        ServiceError: when faster-whisper is not.
    """

    width = 512

    def __init__(self) -> None:
        if importlib.util.find_spec("faster_whisper") is None:
            raise ServiceError(
                "the package faster-whisper is not installed; pip install faster-whisper==1.2.1"
            )
        self._folder = model_folder()

    @property
    def digest(self) -> str:
        """Of the weights' file."""
        return MODEL_SHA256

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """See `SpeechEncoder`."""
        import ctranslate2

        mel = self._mel(wave)
        encoded = self._model.encode(ctranslate2.StorageView.from_array(mel[None]))
        return np.array(encoded)[0]

    def _mel(self, wave: np.ndarray) -> np.ndarray:
        """Log-mel frames, float32 `[80, 4 T]`.

        Mel frame i is centred on 10 i ms and the second convolution steps by two, so vector j would be
        centred on 20 j ms, where its stretch begins. Without the first mel frame it is centred on 20 j + 10.
        """
        hop = self._extractor.hop_length
        mel = self._extractor(np.pad(wave, (0, hop)), padding=0)[:, 1:]
        assert mel.shape == (80, len(wave) // hop), (mel.shape, len(wave))
        return np.ascontiguousarray(mel, np.float32)

    @functools.cached_property
    def _model(self):
        from ctranslate2.models import Whisper

        return Whisper(str(self._folder), device="cpu", compute_type="float32", intra_threads=1)

    @functools.cached_property
    def _extractor(self):
        from faster_whisper.feature_extractor import FeatureExtractor

        return FeatureExtractor()


@functools.cache
def whisper() -> SpeechEncoder:
    """One a process.

    Raises:
        CheckpointError, ServiceError: as `WhisperEncoder`.
    """
    return WhisperEncoder()


class Window(NamedTuple):
    """Frames of an utterance that are heard together, and those of them that are kept: `[first, end)`."""

    first: int
    end: int
    kept_first: int
    kept_end: int


def windows(num_frames: int) -> Iterator[Window]:
    """One window where the utterance and its tail of silence fit; else windows that overlap.

    The kept stretches follow each other and make up the utterance.
    """
    longest = MAX_FRAMES - TAIL_FRAMES
    if num_frames <= longest:
        yield Window(0, num_frames, 0, num_frames)
        return
    step = longest - 2 * CONTEXT_FRAMES
    for first in range(0, num_frames, step):
        end = min(first + step, num_frames)
        yield Window(max(first - CONTEXT_FRAMES, 0), min(end + CONTEXT_FRAMES, num_frames), first, end)


def heard(wave: np.ndarray, num_frames: int, encoder: SpeechEncoder) -> np.ndarray:
    """Float32 `[T, width]` of a wave at 16 kHz, `T = num_frames`: the mean of the two vectors in each 40 ms.

    The wave is cut to whole frames, or followed by silence. A pure function of the wave and the encoder.
    """
    line = np.zeros(num_frames * FRAME_SAMPLES, np.float32)
    line[: len(wave)] = wave[: len(line)]
    parts = [_kept(line, window, encoder) for window in windows(num_frames)]
    return np.concatenate(parts)


def _kept(line: np.ndarray, window: Window, encoder: SpeechEncoder) -> np.ndarray:
    num_heard = window.end - window.first
    silence = max(TAIL_FRAMES, MIN_FRAMES - num_heard) * FRAME_SAMPLES
    sound = line[window.first * FRAME_SAMPLES : window.end * FRAME_SAMPLES]
    encoded = encoder.encode(np.pad(sound, (0, silence)))
    frames = encoded.reshape(-1, ENCODED_PER_FRAME, encoder.width).mean(axis=1)
    return frames[window.kept_first - window.first : window.kept_end - window.first]


def teacher_digest(encoder: SpeechEncoder) -> str:
    """Names what makes vectors of waves: the weights and the rule of windows."""
    rule = (MAX_FRAMES, TAIL_FRAMES, MIN_FRAMES, CONTEXT_FRAMES)
    return hashlib.sha256(f"{encoder.digest} {rule}".encode()).hexdigest()[:16]
