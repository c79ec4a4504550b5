"""The compact binary protocol of `/ws`: messages to bytes and back, without I/O or state.

A message is one kind byte and its body; numbers are little endian. Any bytes decode to a message or
raise ViolationError, nothing else.
"""

import json
import math
import struct
from enum import IntEnum
from typing import Literal, TypeVar, assert_never

from pydantic import ValidationError

from paluku.config import Config
from paluku.protocol.messages import (
    MAX_LABEL_BYTES,
    VERSION,
    Adjust,
    Align,
    ClientMessage,
    CloseCode,
    End,
    Error,
    Forget,
    Hello,
    Interrupt,
    Interrupted,
    Mark,
    Marked,
    Played,
    Ready,
    ReplyAudio,
    ServerMessage,
    Stats,
    Text,
    Turn,
    UserAudio,
    UserText,
    ViolationError,
)

# Two seconds of 16 kHz sound: what a client may send at once after a stall.
MAX_MESSAGE_BYTES = 65_536
MAX_SEQ = 2**32 - 1

_NUMBERED = struct.Struct("<BI")
_REPLY_AUDIO = struct.Struct("<BIBf")  # 10 bytes: the PCM behind it stays aligned for a browser's Int16Array
_TURN = struct.Struct("<BBBI")
_ALIGN = struct.Struct("<Bf")
_PRESENT, _AUDIBLE = 0x01, 0x02
_WHO: tuple[Literal["user", "reply"], ...] = ("user", "reply")
_EVENT: tuple[Literal["started", "stopped"], ...] = ("started", "stopped")


class Kind(IntEnum):
    """The first byte. Bit 7 says that the server speaks."""

    HELLO = 0x01
    USER_AUDIO = 0x02
    END = 0x03
    ADJUST = 0x04
    INTERRUPT = 0x05
    FORGET = 0x06
    PLAYED = 0x07
    MARK = 0x08
    READY = 0x81
    REPLY_AUDIO = 0x82
    TEXT = 0x83
    STATS = 0x84
    ERROR = 0x85
    TURN = 0x86
    INTERRUPTED = 0x87
    ALIGN = 0x88
    MARKED = 0x89
    USER_TEXT = 0x8A


Body = TypeVar("Body", bound=Config)

_JSON_KINDS: dict[type[Config], Kind] = {
    Hello: Kind.HELLO,
    Adjust: Kind.ADJUST,
    Ready: Kind.READY,
    Stats: Kind.STATS,
    Error: Kind.ERROR,
}
_TEXTS: dict[Kind, type[Text] | type[UserText]] = {Kind.TEXT: Text, Kind.USER_TEXT: UserText}
_EMPTY_KINDS: dict[type, Kind] = {End: Kind.END, Interrupt: Kind.INTERRUPT, Forget: Kind.FORGET}


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """A message as it goes into one binary WebSocket frame."""
    match message:
        case UserAudio(seq, sound):
            return _NUMBERED.pack(Kind.USER_AUDIO, seq) + sound
        case ReplyAudio(seq, present, audible, spent_ms, sound):
            flags = _PRESENT * present | _AUDIBLE * audible
            return _REPLY_AUDIO.pack(Kind.REPLY_AUDIO, seq, flags, spent_ms) + sound
        case Hello() | Adjust() | Ready() | Stats() | Error():
            # ASCII, because a message may quote a lone surrogate, which has no UTF-8.
            body = json.dumps(message.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=True)
            return bytes([_JSON_KINDS[type(message)]]) + body.encode()
        case _:
            return _encode_short(message)


def _encode_short(
    message: End | Interrupt | Forget | Played | Mark | Text | UserText | Turn | Interrupted | Align | Marked,
) -> bytes:
    match message:
        case End() | Interrupt() | Forget():
            return bytes([_EMPTY_KINDS[type(message)]])
        case Played(frame):
            return _NUMBERED.pack(Kind.PLAYED, frame)
        case Interrupted(frame):
            return _NUMBERED.pack(Kind.INTERRUPTED, frame)
        case Mark(label):
            return bytes([Kind.MARK]) + label.encode()
        case Marked(frame, label):
            return _NUMBERED.pack(Kind.MARKED, frame) + label.encode()
        case Text(seq, text):
            return _NUMBERED.pack(Kind.TEXT, seq) + text.encode()
        case UserText(seq, text):
            return _NUMBERED.pack(Kind.USER_TEXT, seq) + text.encode()
        case Turn(who, event, frame):
            return _TURN.pack(Kind.TURN, _WHO.index(who), _EVENT.index(event), frame)
        case Align(shift_ms):
            return _ALIGN.pack(Kind.ALIGN, shift_ms)
        case _:
            assert_never(message)


def decode_client(data: bytes) -> ClientMessage:
    """What a client sent.

    Raises:
        ViolationError: when it is no client's message of this version.
    """
    match _kind(data):
        case Kind.HELLO:
            return _json(Hello, data)
        case Kind.USER_AUDIO:
            return UserAudio(int(_head(_NUMBERED, data)[1]), data[_NUMBERED.size :])
        case Kind.END:
            return _exact(End(), data, 1)
        case Kind.ADJUST:
            return _json(Adjust, data)
        case Kind.INTERRUPT:
            return _exact(Interrupt(), data, 1)
        case Kind.FORGET:
            return _exact(Forget(), data, 1)
        case Kind.PLAYED:
            return _exact(Played(int(_head(_NUMBERED, data)[1])), data, _NUMBERED.size)
        case Kind.MARK:
            return Mark(_label(data[1:]))
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
            return _reply_audio(data)
        case Kind.TEXT | Kind.USER_TEXT as kind:
            return _TEXTS[kind](int(_head(_NUMBERED, data)[1]), _utf8(data[_NUMBERED.size :]))
        case Kind.STATS:
            return _json(Stats, data)
        case Kind.ERROR:
            return _json(Error, data)
        case Kind.TURN:
            return _exact(_turn(data), data, _TURN.size)
        case Kind.INTERRUPTED:
            return _exact(Interrupted(int(_head(_NUMBERED, data)[1])), data, _NUMBERED.size)
        case Kind.ALIGN:
            return _exact(Align(_finite(_head(_ALIGN, data)[1])), data, _ALIGN.size)
        case Kind.MARKED:
            return Marked(int(_head(_NUMBERED, data)[1]), _label(data[_NUMBERED.size :]))
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


def _head(layout: struct.Struct, data: bytes) -> tuple[float, ...]:
    if len(data) < layout.size:
        raise ViolationError(
            "malformed", f"kind 0x{data[0]:02x} has {len(data)} bytes, its head alone {layout.size}"
        )
    return layout.unpack_from(data)


Message = TypeVar("Message", End, Interrupt, Forget, Played, Turn, Interrupted, Align)


def _exact(message: Message, data: bytes, size: int) -> Message:
    if len(data) != size:
        raise ViolationError(
            "malformed", f"{type(message).__name__} has {size} bytes, this one has {len(data)}"
        )
    return message


def _reply_audio(data: bytes) -> ReplyAudio:
    _, seq, flags, spent_ms = _head(_REPLY_AUDIO, data)
    present, audible = bool(int(flags) & _PRESENT), bool(int(flags) & _AUDIBLE)
    return ReplyAudio(int(seq), present, audible, _finite(spent_ms), data[_REPLY_AUDIO.size :])


def _turn(data: bytes) -> Turn:
    _, who, event, frame = (int(value) for value in _head(_TURN, data))
    if who >= len(_WHO) or event >= len(_EVENT):
        raise ViolationError("malformed", f"Turn says who {who} and event {event}; 0 and 1 are defined")
    return Turn(_WHO[who], _EVENT[event], frame)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ViolationError("malformed", f"{value} is no number of milliseconds")
    return value


def _label(data: bytes) -> str:
    if len(data) > MAX_LABEL_BYTES:
        raise ViolationError("malformed", f"a label of {len(data)} bytes; {MAX_LABEL_BYTES} are allowed")
    return _utf8(data)


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
        raise ViolationError("malformed", f"{name} is not JSON ({type(error).__name__})") from None
    if isinstance(values, dict) and "version" in model.model_fields and values.get("version") != VERSION:
        raise ViolationError(
            "unsupported_version", f"{name} must say version {VERSION}, not {values.get('version')!r:.20}"
        )
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # Names and reasons, never the values: among them may be a key.
        faults = (
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ViolationError("malformed", f"{name}: {'; '.join(faults)}"[:500]) from None
