"""What client and server say to each other on `/ws`. docs/protocol.md is the prose."""

from enum import IntEnum
from typing import Literal, NamedTuple

from pydantic import Field

from paluku.config import Config
from paluku.errors import ProtocolError
from paluku.voices import StyleName, VoiceName

VERSION = 2

Encoding = Literal["pcm16", "opus"]
TurnTaking = Literal["semantic", "vad", "none"]
# What a client may ask to be told; names that a server does not know are ignored.
CAPABILITIES = ("align", "text", "user_text", "stats", "turns")
SAMPLE_RATES_HZ = (8_000, 16_000, 24_000, 48_000)
OPUS_RATES_HZ = (24_000, 48_000)
MAX_LABEL_BYTES = 64


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


class ResumeRequest(Config):
    """Within Hello: which session goes on, and from where. The token is the session's secret."""

    token: str = Field(min_length=1, max_length=256, repr=False)
    next_reply: int = Field(ge=0, lt=2**32)  # the first reply frame that the client does not have


class Hello(Config):
    """Client, first: what it sends and whom it wants to hear."""

    version: int = VERSION
    encoding: Encoding = "pcm16"
    sample_rate_hz: int = Field(gt=0)
    voice: VoiceName = "priya"
    style: StyleName = "neutral"
    seed: int = Field(default=0, ge=0, lt=2**63)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1, le=65_536)
    turn_taking: TurnTaking = "semantic"
    capabilities: tuple[str, ...] = Field(default=(), max_length=32)
    resume: ResumeRequest | None = None
    key: str | None = Field(default=None, max_length=512, repr=False)  # for who cannot set a header


class UserAudio(NamedTuple):
    """Client: sound. PCM16 in chunks of any whole number of samples, or one Opus packet."""

    seq: int  # of this connection's sound messages: 0 for the first, then one more each
    sound: bytes


class End(NamedTuple):
    """Client: no more sound will come."""


class Adjust(Config):
    """Client: from the next frame on, another voice, style or sampling; what is not said stays."""

    voice: VoiceName | None = None
    style: StyleName | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1, le=65_536)


class Interrupt(NamedTuple):
    """Client: stop the reply now."""


class Forget(NamedTuple):
    """Client: clear the session's memory."""


class Played(NamedTuple):
    """Client: reply frames up to and without this one were played."""

    frame: int


class Mark(NamedTuple):
    """Client: echo this label once all sound before it is answered."""

    label: str  # at most MAX_LABEL_BYTES of UTF-8


class Ready(Config):
    """Server, first: the session is seated, sound may come."""

    version: int = VERSION
    session_id: str
    resume_token: str = Field(repr=False)
    grace_s: float  # for so long a session waits for its client to come back
    sample_rate_hz: int  # the client's
    frame_samples: int  # at the client's rate
    frame_ms: float
    acoustic_delay_frames: int
    next_frame: int  # the number of the user's frame that the next sound begins
    next_reply: int  # no reply frame before this one will be sent
    tick_in_ms: float  # from sending this to the server's next tick
    lead_ms: float  # the user's frames should arrive so long before a tick
    capabilities: tuple[str, ...]  # those asked for that this server has
    server: str  # its name and version


class ReplyAudio(NamedTuple):
    """Server: one frame for each frame of the user's."""

    seq: int  # the number of the user's frame this was stepped with
    present: bool  # False while there is no reply frame: the sound is silence
    audible: bool  # whether it belongs to a stretch of the reply's speech
    spent_ms: float  # from the arrival of the user's frame to sending this
    sound: bytes  # one frame, encoded as the client's


class Text(NamedTuple):
    """Server: a piece of the reply's transcript."""

    seq: int  # the user's frame it was stepped with
    text: str


class UserText(NamedTuple):
    """Server: a piece of what the model understood the user to say."""

    seq: int  # the user's frame it came with, shortly after the word
    text: str


class Turn(NamedTuple):
    """Server: somebody began or stopped to speak."""

    who: Literal["user", "reply"]
    event: Literal["started", "stopped"]
    frame: int


class Interrupted(NamedTuple):
    """Server: the reply from this frame on is not to be heard; drop what is queued."""

    frame: int


class Align(NamedTuple):
    """Server: the client's messages should come so much later (earlier when negative) than they do."""

    shift_ms: float


class Marked(NamedTuple):
    """Server: all sound before the client's Mark is answered; `frame` is the first that is not."""

    frame: int
    label: str


class Stats(Config):
    """Server, once a second and before the end: how the session goes."""

    frames_in: int
    frames_out: int
    late_frames: int
    tick_p50_ms: float
    tick_p99_ms: float
    margin_ms: float | None = None  # from the last arrivals to the ticks that took them, its low end


class Error(Config):
    """Server, before it closes the socket for a reason."""

    code: str
    message: str
    retry_s: float | None = None


ClientMessage = Hello | UserAudio | End | Adjust | Interrupt | Forget | Played | Mark
ServerMessage = Ready | ReplyAudio | Text | UserText | Turn | Interrupted | Align | Marked | Stats | Error
