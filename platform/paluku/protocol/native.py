"""The compact binary protocol of `/ws`: messages to bytes and back, without I/O or state.

A message is one kind byte and its body; numbers are little endian. Any bytes decode to a message or
raise ViolationError, nothing else.
"""

import json
import struct
from enum import IntEnum
from typing import TypeVar

from paluku.config import Config, resolve
from paluku.errors import ConfigError
from paluku.protocol.messages import (
    VERSION,
    ClientMessage,
    CloseCode,
    End,
    Error,
    Hello,
    Ready,
    ReplyAudio,
    ServerMessage,
    Stats,
    Text,
    UserAudio,
    ViolationError,
)

# Two seconds of 16 kHz sound: what a client may send at once after a stall.
MAX_MESSAGE_BYTES = 65_536
MAX_SEQ = 2**32 - 1

_USER_AUDIO = struct.Struct("<BI")
_REPLY_AUDIO = struct.Struct("<BIBf")  # 10 bytes: the PCM behind it stays aligned for a browser's Int16Array
_TEXT = struct.Struct("<BI")
_PRESENT = 0x01


class Kind(IntEnum):
    """The first byte. Bit 7 says that the server speaks."""

    HELLO = 0x01
    USER_AUDIO = 0x02
    END = 0x03
    READY = 0x81
    REPLY_AUDIO = 0x82
    TEXT = 0x83
    STATS = 0x84
    ERROR = 0x85


Body = TypeVar("Body", bound=Config)


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """A message as it goes into one binary WebSocket frame."""
    match message:
        case UserAudio(seq, pcm):
            return _USER_AUDIO.pack(Kind.USER_AUDIO, seq) + pcm
        case ReplyAudio(seq, present, spent_ms, pcm):
            return _REPLY_AUDIO.pack(Kind.REPLY_AUDIO, seq, _PRESENT if present else 0, spent_ms) + pcm
        case Text(seq, text):
            return _TEXT.pack(Kind.TEXT, seq) + text.encode()
        case End():
            return bytes([Kind.END])
        case Hello() | Ready() | Stats() | Error():
            # ASCII, because a message may quote a lone surrogate, which has no UTF-8.
            body = json.dumps(message.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=True)
            return bytes([_JSON_KINDS[type(message)]]) + body.encode()


_JSON_KINDS: dict[type[Config], Kind] = {
    Hello: Kind.HELLO,
    Ready: Kind.READY,
    Stats: Kind.STATS,
    Error: Kind.ERROR,
}


def decode_client(data: bytes) -> ClientMessage:
    """What a client sent.

    Raises:
        ViolationError: when it is no client's message of this version.
    """
    match _kind(data):
        case Kind.HELLO:
            return _json(Hello, data)
        case Kind.USER_AUDIO:
            seq, pcm = _head(_USER_AUDIO, data)[1], data[_USER_AUDIO.size :]
            return UserAudio(seq, _whole_samples(pcm))
        case Kind.END:
            if len(data) != 1:
                raise ViolationError("malformed", f"End has no body, this one has {len(data) - 1} bytes")
            return End()
        case kind:
            raise ViolationError("unknown_kind", f"a client does not send kind 0x{kind:02x} ({kind.name})")


def decode_server(data: bytes) -> ServerMessage:
    """What a server sent.

    Raises:
        ViolationError: when it is no server's message of this version.
    """
    match _kind(data):
        case Kind.READY:
            return _json(Ready, data)
        case Kind.REPLY_AUDIO:
            _, seq, flags, spent_ms = _head(_REPLY_AUDIO, data)
            pcm = _whole_samples(data[_REPLY_AUDIO.size :])
            return ReplyAudio(seq, bool(flags & _PRESENT), spent_ms, pcm)
        case Kind.TEXT:
            _, seq = _head(_TEXT, data)
            return Text(seq, _utf8(data[_TEXT.size :]))
        case Kind.STATS:
            return _json(Stats, data)
        case Kind.ERROR:
            return _json(Error, data)
        case kind:
            raise ViolationError("unknown_kind", f"a server does not send kind 0x{kind:02x} ({kind.name})")


def _kind(data: bytes) -> Kind:
    if len(data) > MAX_MESSAGE_BYTES:
        raise ViolationError(
            "too_big", f"a message of {len(data)} bytes; {MAX_MESSAGE_BYTES} are allowed", CloseCode.TOO_BIG
        )
    if not data:
        raise ViolationError("malformed", "an empty message; the first byte must be its kind")
    try:
        return Kind(data[0])
    except ValueError:
        raise ViolationError("unknown_kind", f"kind 0x{data[0]:02x} is not in version {VERSION}") from None


def _head(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) < layout.size:
        raise ViolationError(
            "malformed", f"kind 0x{data[0]:02x} has {len(data)} bytes, its head alone {layout.size}"
        )
    return layout.unpack_from(data)


def _whole_samples(pcm: bytes) -> bytes:
    if len(pcm) % 2:
        raise ViolationError("odd_bytes", f"{len(pcm)} bytes of sound; PCM16 has two bytes a sample")
    return pcm


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ViolationError("malformed", f"text is not UTF-8 ({error.reason})") from error


def _json(model: type[Body], data: bytes) -> Body:
    name = model.__name__
    try:
        values = json.loads(_utf8(data[1:]))
    # ValueError: no JSON, or a number of thousands of digits. RecursionError: thousands of brackets.
    except (ValueError, RecursionError) as error:
        raise ViolationError("malformed", f"{name} is not JSON ({type(error).__name__})") from error
    if isinstance(values, dict) and "version" in model.model_fields and values.get("version") != VERSION:
        raise ViolationError(
            "unsupported_version", f"{name} must say version {VERSION}, not {values.get('version')!r:.20}"
        )
    try:
        return resolve(model, values, name)
    except ConfigError as error:
        raise ViolationError("malformed", str(error)[:500]) from error
