"""The stage port: what Encode, Converse and Decode are to the engine and to Ray Serve.

A stage holds `num_seats` seats and steps any subset of them at once. Messages are numpy arrays, so
that whoever carries them (a socket, a Serve handle) needs no torch.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from paluku.config import Config
from paluku.voices import StyleName, VoiceName

# The columns of a reply row: our text token, the user's (PAD where the model hears no words), our K codes.
OUR_TEXT, USER_TEXT, FIRST_CODE = 0, 1, 2


class Conditions(Config):
    """What a session asks of the model."""

    voice: VoiceName = "priya"
    style: StyleName = "neutral"
    speaker: tuple[float, ...] | None = None  # a reference recording's vector, in place of the voice's own
    seed: int = 0
    temperature: float = 0.8  # of the codes
    top_k: int = 50
    text_temperature: float = 0.7
    text_top_k: int = 25
    # How strongly voice and style are followed: 1 as trained; another value only where Converse is guided.
    guidance: float = 1.0


class Batch(NamedTuple):
    """One message per tick: `N` seats, each with one frame.

    `seats` is int32 `[N]`, without repetition. `payload` is `[N, ...]`, by stage boundary:
    PCM int16 `[N, S]` into Encode and out of Decode; codes int16 `[N, K]` into Converse (the user's)
    and Decode (the reply's; -1 in a row means "no reply frame yet" and decodes to silence);
    int16 `[N, 2 + K]` out of Converse: our text token, the user's, then our codes (`FIRST_CODE` on).
    """

    seats: np.ndarray
    payload: np.ndarray


class History(NamedTuple):
    """The last frames a session lived through, oldest first: what `prime` replays. All int16.

    `user_codes` and `reply` are the frames `start` to `end`; `user_pcm` are the last `P` of them, for a
    codec's past is short and sound is large.
    """

    start: int  # the first frame's number in its session
    user_pcm: np.ndarray  # [P, S]
    user_codes: np.ndarray  # [F, K]
    reply: np.ndarray  # [F, 2 + K], as Converse gave it

    @property
    def end(self) -> int:
        """The number of the frame that comes next."""
        return self.start + len(self.reply)


@runtime_checkable
class Stage(Protocol):
    """One part of the graph. Law: a seat's output depends on that seat's own inputs alone."""

    @property
    def num_seats(self) -> int:
        """`B`: how many seats it holds."""
        ...

    def open(self, seat: int, conditions: Conditions) -> None:
        """Make a seat fresh for a new session."""
        ...

    @property
    def reach_frames(self) -> int:
        """How far back a seat's state reaches: a history of at least so many frames primes exactly."""
        ...

    def adjust(self, seat: int, conditions: Conditions) -> None:
        """Change what an open seat's session asks for, without forgetting."""
        ...

    def prime(self, seat: int, history: History) -> Iterator[None]:
        """Bring a freshly opened seat to where a session was: equals having stepped through its frames.

        In slices of a few milliseconds: yields after each, so that the caller can step other seats.
        The reply is taken from the history, whatever this model would have said.
        """
        ...

    def step(self, batch: Batch) -> Batch:
        """One frame in, one frame out for each seat of the batch."""
        ...

    def close(self, seat: int) -> None:
        """End a session: nothing of it may reach the seat's next user."""
        ...
