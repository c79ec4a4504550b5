"""The order of messages, as a state machine for each side. No I/O: bytes in, messages out."""

from enum import Enum

from paluku.protocol import native
from paluku.protocol.messages import (
    CAPABILITIES,
    OPUS_RATES_HZ,
    SAMPLE_RATES_HZ,
    Align,
    ClientMessage,
    End,
    Error,
    Hello,
    Interrupt,
    Interrupted,
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

# What the server says only to clients that asked for it.
_ASKED_FOR: dict[type, str] = {
    Align: "align",
    Text: "text",
    UserText: "user_text",
    Stats: "stats",
    Turn: "turns",
    Interrupted: "turns",
}


class State(Enum):
    """Where a connection is."""

    GREETING = "greeting"  # no Hello, or no Ready, yet
    STREAMING = "streaming"
    ENDING = "ending"  # the client has said End
    CLOSED = "closed"


class ServerSide:
    """What a server may receive, in order, and what it sends to a client with these capabilities."""

    def __init__(self) -> None:
        self._next_seq = 0
        self._end_reply = 0  # the frame after the last that the client has
        self._played = 0
        self.capabilities: tuple[str, ...] = ()
        self.state = State.GREETING

    def receive(self, data: bytes) -> ClientMessage:
        """Decode one message and check that it may come now.

        Raises:
            ViolationError: when it may not, or cannot be decoded; the connection is to be closed.
        """
        message = native.decode_client(data)
        match message, self.state:
            case _, State.CLOSED:
                raise ViolationError("after_end", f"{type(message).__name__} while {self.state.value}")
            case Hello(), State.GREETING:
                self._greeted(message)
            case Hello(), _:
                raise ViolationError(
                    "second_hello", f"Hello comes once; this connection is {self.state.value}"
                )
            case _, State.GREETING:
                raise ViolationError("no_hello", f"{type(message).__name__} before Hello; send Hello first")
            case Played(), _:
                self._check_played(message)
            case Interrupt(), _:
                pass  # also behind End: the reply goes on after it
            case _, State.ENDING:
                raise ViolationError("after_end", f"{type(message).__name__} while {self.state.value}")
            case UserAudio(), _:
                self._check_seq(message)
            case End(), _:
                self.state = State.ENDING
            case _:
                pass
        return message

    def send(self, message: ServerMessage) -> bytes | None:
        """Encode one message; None when the client did not ask to be told such."""
        if isinstance(message, Error):
            self.state = State.CLOSED
            return native.encode(message)
        assert self.state in (State.STREAMING, State.ENDING), f"{type(message).__name__} while {self.state}"
        if _ASKED_FOR.get(type(message), "") not in ("", *self.capabilities):
            return None
        if isinstance(message, ReplyAudio):
            assert message.seq >= self._end_reply, f"reply {message.seq} after {self._end_reply - 1}"
            self._end_reply = message.seq + 1
        return native.encode(message)

    def _greeted(self, hello: Hello) -> None:
        rates_hz = OPUS_RATES_HZ if hello.encoding == "opus" else SAMPLE_RATES_HZ
        if hello.sample_rate_hz not in rates_hz:
            known = ", ".join(map(str, rates_hz))
            raise ViolationError(
                "wrong_rate",
                f"{hello.encoding} is taken at {known} Hz, not {hello.sample_rate_hz} Hz; resample",
            )
        self.capabilities = tuple(name for name in CAPABILITIES if name in hello.capabilities)
        if hello.resume is not None:
            self._end_reply = hello.resume.next_reply
        self.state = State.STREAMING

    def _check_seq(self, audio: UserAudio) -> None:
        if audio.seq != self._next_seq:
            raise ViolationError("out_of_order", f"sound message {audio.seq} came, {self._next_seq} was due")
        self._next_seq = (self._next_seq + 1) & native.MAX_SEQ

    def _check_played(self, played: Played) -> None:
        if not self._played <= played.frame <= self._end_reply:
            raise ViolationError(
                "bad_frame",
                f"Played {played.frame}; between {self._played} and {self._end_reply} can be true",
            )
        self._played = played.frame


class ClientSide:
    """What a client sends and receives on one connection, in order."""

    def __init__(self, next_reply: int = 0) -> None:
        self._next_seq = 0
        self._next_reply = next_reply
        self.state = State.GREETING

    def audio(self, sound: bytes) -> bytes:
        """The next sound message; RuntimeError unless streaming."""
        self._must_stream("UserAudio")
        message = UserAudio(self._next_seq, sound)
        self._next_seq = (self._next_seq + 1) & native.MAX_SEQ
        return native.encode(message)

    def send(self, message: ClientMessage) -> bytes:
        """Any message but sound; RuntimeError when it may not be sent now."""
        match message, self.state:
            case Hello(), State.GREETING:
                pass
            case ((Played() | Interrupt()), State.ENDING):
                pass
            case ((Hello() | UserAudio()), _):
                raise RuntimeError(
                    f"{type(message).__name__} may not be sent by hand while {self.state.value}"
                )
            case _:
                self._must_stream(type(message).__name__)
        if isinstance(message, End):
            self.state = State.ENDING
        return native.encode(message)

    def receive(self, data: bytes) -> ServerMessage:
        """Decode one message and check that it may come now.

        Raises:
            ViolationError: when it may not, or cannot be decoded.
        """
        message = native.decode_server(data)
        match message, self.state:
            case _, State.CLOSED:
                raise ViolationError("out_of_order", f"{type(message).__name__} came while closed")
            case Error(), _:
                self.state = State.CLOSED
            case Ready(), State.GREETING:
                self._check_ready(message)
                self.state = State.STREAMING
            case (Ready(), _) | (_, State.GREETING):
                raise ViolationError(
                    "out_of_order", f"{type(message).__name__} came while {self.state.value}"
                )
            case ReplyAudio(), _ if message.seq < self._next_reply:
                raise ViolationError("said_twice", f"reply {message.seq} came, {self._next_reply} was due")
            case ReplyAudio(), _:
                self._next_reply = (
                    message.seq + 1
                )  # a gap is sound that was lost, and for the caller to count
            case _:
                pass
        return message

    def _check_ready(self, ready: Ready) -> None:
        if ready.next_reply < self._next_reply:
            raise ViolationError(
                "said_twice", f"Ready goes on with reply {ready.next_reply}, {self._next_reply} was due"
            )

    def _must_stream(self, what: str) -> None:
        if self.state is not State.STREAMING:
            raise RuntimeError(f"{what} may not be sent while the connection is {self.state.value}")
