"""Opus, one packet a message: encoder and decoder over libopus, which package `sphn` brings.

`sphn` speaks Ogg (RFC 3533); on our wire there are raw packets (RFC 6716), because a message has its own
length, a packet decodes to at most 120 ms whatever it holds, and browsers' WebCodecs take and give them.
So each packet is put into a page of its own on its way into `sphn`, and taken out of one on its way back.
"""

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from paluku.audio import from_pcm16, to_pcm16
from paluku.errors import AudioError
from paluku.protocol.messages import ViolationError
from paluku.protocol.resampling import Resampler

if TYPE_CHECKING:
    import sphn

# sphn's encoder makes packets of 960 samples from whatever it is given: 40 ms at this rate. At 48 kHz they
# would be half a frame. A packet may be decoded at any rate, whatever it was encoded at.
ENCODER_RATE_HZ = 24_000
OPUS_FRAME_MS = 40.0
# Sound comes out so much later than it went in: the encoder's lookahead, as measured.
OPUS_DELAY_MS = 6.5
# 120 ms at Opus' highest rate, 510 kbit/s, is 7,650 bytes.
MAX_PACKET_BYTES = 8_192

_PAGE = struct.Struct("<4sBBqIIIB")  # RFC 3533, section 6, up to the segment table
_SEGMENT = 255
_FIRST_PAGE = 0x02
# RFC 7845, section 5: mono, nothing to skip, no comments.
_HEAD = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, 48_000, 0, 0)
_TAGS = struct.pack("<8sII", b"OpusTags", 0, 0)


class OpusEncoder:
    """Mono sound to packets of about 26 kbit/s, one for each frame of OPUS_FRAME_MS."""

    def __init__(self, rate_hz: int) -> None:
        self._resampler = Resampler(rate_hz, ENCODER_RATE_HZ)
        self._writer: sphn.OpusStreamWriter = _library().OpusStreamWriter(ENCODER_RATE_HZ)

    def encode(self, pcm: np.ndarray) -> bytes:
        """One packet of int16 `[S]`."""
        pages = bytes(self._writer.append_pcm(from_pcm16(self._resampler.push(pcm))))
        packets = [packet for packet in _packets(pages) if packet[:4] != b"Opus"]  # headers come first
        assert len(packets) == 1, f"{len(pcm)} samples became {len(packets)} packets"
        return packets[0]


class OpusDecoder:
    """Packets to mono sound."""

    def __init__(self, rate_hz: int) -> None:
        self._reader: sphn.OpusStreamReader = _library().OpusStreamReader(rate_hz)
        self._pages = 0
        for header in (_HEAD, _TAGS):
            self._reader.append_bytes(self._paged(header))

    def decode(self, packet: bytes) -> np.ndarray:
        """The packet's sound, int16 `[S]`: at most 120 ms.

        Raises:
            ViolationError: when it is no Opus packet (`bad_sound`).
        """
        if not 0 < len(packet) <= MAX_PACKET_BYTES:
            raise ViolationError(
                "bad_sound", f"an Opus packet of {len(packet)} bytes; 1 to {MAX_PACKET_BYTES} are taken"
            )
        try:
            wave = self._reader.append_bytes(self._paged(packet))
        except ValueError:
            raise ViolationError("bad_sound", f"{len(packet)} bytes that are no Opus packet") from None
        return to_pcm16(np.nan_to_num(wave))

    def _paged(self, packet: bytes) -> bytes:
        """A page with one packet. Its checksum is 0: sphn does not look at it."""
        lacing = bytes([_SEGMENT] * (len(packet) // _SEGMENT) + [len(packet) % _SEGMENT])
        flags = 0 if self._pages else _FIRST_PAGE
        head = _PAGE.pack(b"OggS", 0, flags, 0, 1, self._pages & 0xFFFFFFFF, 0, len(lacing))
        self._pages += 1
        return head + lacing + packet


def _packets(pages: bytes) -> Iterator[bytes]:
    """The packets of whole pages, each of which holds one."""
    start = 0
    while start < len(pages):
        body = start + _PAGE.size + pages[start + _PAGE.size - 1]
        end = body + sum(pages[start + _PAGE.size : body])
        yield pages[body:end]
        start = end


def _library():
    try:
        import sphn
    except ImportError:
        raise AudioError("Opus needs the package sphn; pip install sphn, or use PCM16") from None
    return sphn
