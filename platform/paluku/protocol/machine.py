"""The order of messages, as a state machine for each side. No I/O: bytes in, messages out."""

from enum import Enum

from paluku.protocol import native
from paluku.protocol.messages import (
    ClientMessage,
    End,
    Error,
    Hello,
    Ready,
    ReplyAudio,
    ServerMessage,
    UserAudio,
    ViolationError,
)


class State(Enum):
    """Where a connection is."""

    GREETING = "greeting"  # no Hello, or no Ready, yet
    STREAMING = "streaming"
    ENDING = "ending"  # the client has said End
    CLOSED = "closed"


class ServerSide:
    """What a server may receive, in order. What it takes is named when something else comes."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._next_seq = 0
        self.state = State.GREETING

    def receive(self, data: bytes) -> ClientMessage:
        """Decode one message and check that it may come now.

        Raises:
            ViolationError: when it may not, or cannot be decoded; the connection is to be closed.
        """
        message = native.decode_client(data)
        match message, self.state:
            case Hello(), State.GREETING:
                self._check_rate(message)
                self.state = State.STREAMING
            case Hello(), _:
                raise ViolationError(
                    "second_hello", f"Hello comes once; this connection is {self.state.value}"
                )
            case UserAudio(), State.STREAMING:
                self._check_seq(message)
            case End(), State.STREAMING:
                self.state = State.ENDING
            case _, State.GREETING:
                raise ViolationError("no_hello", f"{type(message).__name__} before Hello; send Hello first")
            case _:
                raise ViolationError("after_end", f"{type(message).__name__} while {self.state.value}")
        return message

    def _check_rate(self, hello: Hello) -> None:
        if hello.sample_rate_hz != self._sample_rate_hz:
            raise ViolationError(
                "wrong_rate",
                f"this server takes {self._sample_rate_hz} Hz, not {hello.sample_rate_hz} Hz; resample",
            )

    def _check_seq(self, audio: UserAudio) -> None:
        if audio.seq != self._next_seq:
            raise ViolationError("out_of_order", f"sound message {audio.seq} came, {self._next_seq} was due")
        self._next_seq = (self._next_seq + 1) & native.MAX_SEQ


class ClientSide:
    """What a client sends and receives, in order."""

    def __init__(self) -> None:
        self._next_seq = 0
        self._next_reply = 0
        self.state = State.GREETING

    def audio(self, pcm: bytes) -> bytes:
        """The next sound message; RuntimeError unless streaming."""
        self._must_stream("sound")
        message = UserAudio(self._next_seq, pcm)
        self._next_seq = (self._next_seq + 1) & native.MAX_SEQ
        return native.encode(message)

    def end(self) -> bytes:
        """The last message; RuntimeError unless streaming."""
        self._must_stream("End")
        self.state = State.ENDING
        return native.encode(End())

    def receive(self, data: bytes) -> ServerMessage:
        """Decode one message and check that it may come now.

        Raises:
            ViolationError: when it may not, or cannot be decoded.
        """
        message = native.decode_server(data)
        match message, self.state:
            case Error(), _:
                self.state = State.CLOSED
            case Ready(), State.GREETING:
                self.state = State.STREAMING
            case (Ready(), _) | (_, State.GREETING) | (_, State.CLOSED):
                raise ViolationError(
                    "out_of_order", f"{type(message).__name__} came while {self.state.value}"
                )
            case ReplyAudio(), _ if message.seq != self._next_reply:
                raise ViolationError("out_of_order", f"reply {message.seq} came, {self._next_reply} was due")
            case ReplyAudio(), _:
                self._next_reply = (self._next_reply + 1) & native.MAX_SEQ
            case _:
                pass
        return message

    def _must_stream(self, what: str) -> None:
        if self.state is not State.STREAMING:
            raise RuntimeError(f"{what} may not be sent while the connection is {self.state.value}")
