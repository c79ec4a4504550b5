"""What client and server say to each other on `/ws`. docs/protocol.md is the prose."""

from enum import IntEnum
from typing import NamedTuple

from pydantic import Field

from paluku.config import Config
from paluku.errors import ProtocolError
from paluku.voices import StyleName, VoiceName

VERSION = 1


class CloseCode(IntEnum):
    """WebSocket close codes the server uses (RFC 6455, section 7.4.1, and the IANA registry)."""

    DONE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NOT_BINARY = 1003
    POLICY = 1008
    TOO_BIG = 1009
    STAGE_LOST = 1011
    RESTARTING = 1012
    TRY_AGAIN = 1013


class ViolationError(ProtocolError):
    """A message that breaks the protocol: `code` names how, `close_code` is how the socket closes."""

    def __init__(self, code: str, message: str, close_code: CloseCode = CloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code

    def __reduce__(self) -> tuple[type["ViolationError"], tuple[object, ...]]:
        """As pickle makes it again."""
        return type(self), (self.code, str(self), self.close_code)


class Hello(Config):
    """Client, first: what it sends and whom it wants to hear."""

    version: int = VERSION
    sample_rate_hz: int = Field(gt=0)
    voice: VoiceName = "priya"
    style: StyleName = "neutral"
    seed: int = Field(default=0, ge=0, lt=2**63)


class UserAudio(NamedTuple):
    """Client: sound, in chunks of any whole number of samples."""

    seq: int  # 0 for the first message, then one more each
    pcm: bytes  # PCM16, little endian, mono


class End(NamedTuple):
    """Client, last: no more sound will come."""


class Ready(Config):
    """Server, first: the session is seated, sound may come."""

    version: int = VERSION
    session_id: str
    sample_rate_hz: int
    frame_samples: int
    frame_ms: float
    acoustic_delay_frames: int


class ReplyAudio(NamedTuple):
    """Server: one frame for each frame of the user's."""

    seq: int  # the user's frame this was stepped with, from 0
    present: bool  # False while there is no reply frame yet: the sound is silence
    spent_ms: float  # from the arrival of the user's frame to sending this
    pcm: bytes  # PCM16, little endian, mono


class Text(NamedTuple):
    """Server: a piece of the reply's transcript."""

    seq: int  # the user's frame it was stepped with
    text: str


class Stats(Config):
    """Server, once a second and before the end: how the session goes."""

    frames_in: int
    frames_out: int
    late_frames: int
    tick_p50_ms: float
    tick_p99_ms: float


class Error(Config):
    """Server, before it closes the socket for a reason."""

    code: str
    message: str
    retry_s: float | None = None


ClientMessage = Hello | UserAudio | End
ServerMessage = Ready | ReplyAudio | Text | Stats | Error
