"""Sound on the wire: int16 samples to a message's bytes and back, by the encoding the client chose."""

from typing import Protocol, runtime_checkable

import numpy as np

from paluku.protocol.messages import Encoding, ViolationError
from paluku.protocol.opus import OpusDecoder, OpusEncoder


@runtime_checkable
class SoundEncoder(Protocol):
    """Makes messages of sound."""

    def encode(self, pcm: np.ndarray) -> bytes:
        """int16 `[S]`, one frame."""
        ...


@runtime_checkable
class SoundDecoder(Protocol):
    """Reads messages of sound."""

    def decode(self, packet: bytes) -> np.ndarray:
        """int16 `[S]`. Raises ViolationError."""
        ...


class Pcm16:
    """Little endian, mono."""

    def encode(self, pcm: np.ndarray) -> bytes:
        """Two bytes a sample."""
        return pcm.astype("<i2", copy=False).tobytes()

    def decode(self, packet: bytes) -> np.ndarray:
        """Raises ViolationError when there is half a sample."""
        if len(packet) % 2:
            raise ViolationError("odd_bytes", f"{len(packet)} bytes of sound; PCM16 has two bytes a sample")
        return np.frombuffer(packet, "<i2")


def sound_encoder(encoding: Encoding, rate_hz: int) -> SoundEncoder:
    """For one direction of one connection. Raises AudioError when there is no Opus here."""
    return OpusEncoder(rate_hz) if encoding == "opus" else Pcm16()


def sound_decoder(encoding: Encoding, rate_hz: int) -> SoundDecoder:
    """For one direction of one connection. Raises AudioError when there is no Opus here."""
    return OpusDecoder(rate_hz) if encoding == "opus" else Pcm16()
