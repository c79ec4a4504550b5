"""What a session tells its connection, in order; each protocol says it in its own words."""

from typing import NamedTuple

import numpy as np

from paluku.protocol.messages import CloseCode, Error, ViolationError
from paluku.streaming.turns import ReplySpeech, UserSpeech


class ReplyFrame(NamedTuple):
    """One reply frame for each frame of the user's."""

    number: int  # of the user's frame it was stepped with
    pcm: np.ndarray  # int16 [S]; silence when not `present`
    present: bool  # whether there is a reply frame: not at a session's first step, nor while interrupted
    is_audible: bool  # whether it belongs to a stretch of the reply's speech
    text: str  # the piece of the transcript that came with it, in whole characters
    arrived_s: float  # when the user's frame came


class UserText(NamedTuple):
    """A piece of what the model understood the user to say, in whole characters."""

    number: int  # of the user's frame it came with: shortly after the word
    text: str


class Interrupted(NamedTuple):
    """The reply from this frame on is not to be heard: drop what is queued."""

    frame: int


class Align(NamedTuple):
    """The client's messages should come so much later (earlier when negative) than they do."""

    shift_ms: float


class Marked(NamedTuple):
    """All sound heard before the client's marker is answered; `frame` is the first that is not."""

    label: str
    frame: int


class Report(NamedTuple):
    """How the session goes; once a second."""

    frames_in: int
    frames_out: int
    late_frames: int
    tick_p50_ms: float
    tick_p99_ms: float
    margin_ms: float | None  # from the last arrivals to the ticks that took them, its low end


class Ending(NamedTuple):
    """How a connection ends: a close code, and the error said before, if it is one."""

    close_code: CloseCode
    error: Error | None = None

    @property
    def code(self) -> str:
        """Its name, for the close frame and the statistics."""
        return self.error.code if self.error else "done"

    @staticmethod
    def of(close_code: CloseCode, code: str, message: str, retry_s: float | None = None) -> "Ending":
        """An ending with an error."""
        return Ending(close_code, Error(code=code, message=message, retry_s=retry_s))

    @staticmethod
    def of_violation(error: ViolationError) -> "Ending":
        """The client has broken the protocol."""
        return Ending.of(error.close_code, error.code, str(error))


Event = ReplyFrame | UserText | UserSpeech | ReplySpeech | Interrupted | Align | Marked | Report | Ending
