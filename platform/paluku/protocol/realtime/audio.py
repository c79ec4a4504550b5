"""Sound as Realtime clients send and want it: PCM16 at 24 kHz or G.711 at 8 kHz, and the model's rate.

Resampling is soxr's streaming "medium" quality: it holds back 15 ms between 16 and 24 kHz and 26 ms
between 8 and 16 kHz (measured), where "high" holds back 21 and 66 ms.
"""

from functools import cache
from typing import Literal, get_args

import numpy as np
import soxr

FormatName = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
SAMPLE_BYTES: dict[FormatName, int] = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}
RATES_HZ: dict[FormatName, int] = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}

_QUALITY = "MQ"
_ULAW_CLIP, _ULAW_BIAS = 8158, 33  # in 14 bits


class Ear:
    """A client's sound, in chunks of any number of bytes, as PCM16 bytes at the model's rate."""

    def __init__(self, name: FormatName, model_hz: int) -> None:
        self._name: FormatName = name
        self._model_hz = model_hz
        self._half = b""  # a sample may be cut in two by a message's end
        self._stream = _stream(RATES_HZ[name], model_hz)

    def hear(self, data: bytes) -> bytes:
        """The next chunk; a few milliseconds stay inside until `finish`."""
        if self._name != "audio/pcm":
            return _resample(self._stream, decode(self._name, data)).tobytes()
        data = self._half + data
        whole = len(data) // 2 * 2
        self._half = data[whole:]
        return _resample(self._stream, np.frombuffer(data[:whole], "<i2")).tobytes()

    def finish(self) -> bytes:
        """What stayed inside; the next chunk begins a new stretch of sound."""
        rest = _resample(self._stream, np.zeros(0, np.int16), last=True)
        self.__init__(self._name, self._model_hz)
        return rest.tobytes()


class Mouth:
    """One response's sound, frame by frame from the model, as bytes of a client's format."""

    def __init__(self, name: FormatName, model_hz: int) -> None:
        self._name: FormatName = name
        self._stream = _stream(model_hz, RATES_HZ[name])

    def say(self, pcm: np.ndarray) -> bytes:
        """int16 `[S]` in, the bytes that are ready out; maybe none."""
        return encode(self._name, _resample(self._stream, pcm))

    def finish(self) -> bytes:
        """What stayed inside. Nothing is said after it."""
        return encode(self._name, _resample(self._stream, np.zeros(0, np.int16), last=True))


def decode(name: FormatName, data: bytes) -> np.ndarray:
    """Bytes of a format to int16 `[S]`; PCM16 must come in whole samples."""
    if name == "audio/pcm":
        return np.frombuffer(data, "<i2")
    return _decoded(name)[np.frombuffer(data, np.uint8)]


def encode(name: FormatName, pcm: np.ndarray) -> bytes:
    """int16 `[S]` to bytes of a format."""
    if name == "audio/pcm":
        return pcm.astype("<i2").tobytes()
    return _encoded(name)[pcm.view(np.uint16)].tobytes()


def _stream(from_hz: int, to_hz: int) -> soxr.ResampleStream | None:
    if from_hz == to_hz:
        return None
    return soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality=_QUALITY)


def _resample(stream: soxr.ResampleStream | None, pcm: np.ndarray, last: bool = False) -> np.ndarray:
    """In floats: soxr's own int16 is dithered, which would make the same sound come out different."""
    if stream is None:
        return pcm
    wave = stream.resample_chunk(pcm.astype(np.float32), last=last)
    return np.rint(np.clip(wave, -32_768, 32_767)).astype("<i2")


@cache
def _decoded(name: FormatName) -> np.ndarray:
    """int16 `[256]`: ITU-T G.711, tables 1 and 2, as its reference code (G.191) scales them to 16 bits."""
    byte = np.arange(256)
    if name == "audio/pcmu":
        byte = ~byte & 0xFF
        segment, step = byte >> 4 & 7, byte & 15
        size = ((step << 3) + 0x84 << segment) - 0x84
        return np.where(byte & 0x80, -size, size).astype(np.int16)
    byte = byte ^ 0x55
    segment, step = byte >> 4 & 7, (byte & 15) << 4
    size = np.where(segment == 0, step + 8, step + 0x108 << np.maximum(segment - 1, 0))
    return np.where(byte & 0x80, size, -size).astype(np.int16)


@cache
def _encoded(name: FormatName) -> np.ndarray:
    """uint8 `[65536]`, by the sample's bits: the same recommendation, the other way."""
    sample = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)
    if name == "audio/pcmu":
        size = np.minimum(np.abs(sample >> 2), _ULAW_CLIP) + _ULAW_BIAS
        segment = np.minimum(np.floor(np.log2(size)).astype(int) - 5, 7)
        code = segment << 4 | size >> segment + 1 & 15
        return (code ^ np.where(sample < 0, 0x7F, 0xFF)).astype(np.uint8)
    size = np.where(sample < 0, -(sample >> 3) - 1, sample >> 3)
    segment = np.maximum(np.floor(np.log2(np.maximum(size, 1))).astype(int) - 4, 0)
    code = segment << 4 | size >> np.maximum(segment, 1) & 15
    return (code ^ np.where(sample < 0, 0x55, 0xD5)).astype(np.uint8)
