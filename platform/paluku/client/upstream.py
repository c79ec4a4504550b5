"""What a conversation says, across the connections it lives through: frames of sound and what stands between.

No I/O: the conversation puts in, a connection takes out, and after a resume some of it is taken out again.
"""

from collections import deque
from typing import NamedTuple

from paluku.errors import ServiceError
from paluku.protocol.messages import Adjust, End, Forget, Interrupt, Mark, Played

# The server asks for no more than it has not remembered elsewhere, which is about a second.
KEPT_S = 10.0
# Frames that may be sent and not yet replied to. The server takes two seconds at once; a backlog behind a
# resume goes out at the pace at which the server works it off.
WINDOW_FRAMES = 40

Control = Adjust | End | Forget | Interrupt | Mark | Played


class Sound(NamedTuple):
    """A frame to send."""

    number: int
    pcm: bytes


class Upstream:
    """An ordered list with a cursor. Frame numbers are the session's, from 0."""

    def __init__(self, frame_s: float) -> None:
        self._kept: deque[Sound] = deque()
        self._max_kept = round(KEPT_S / frame_s)
        self._controls: deque[tuple[int, Control]] = deque()  # each goes out before that frame
        self._unanswered: list[tuple[int, Mark | End]] = []  # sent, and nothing came of it yet
        self._cursor = 0  # the next frame to send
        self._end_frame = 0  # the next frame to come in
        self.replied = 0  # the frame after the last that was replied to

    @property
    def next_frame(self) -> int:
        """The number of the frame that the next sound put in gets."""
        return self._end_frame

    @property
    def is_waiting(self) -> bool:
        """Whether something was said that the server has not answered."""
        return self._cursor > self.replied or bool(self._unanswered)

    def put(self, pcm: bytes) -> int:
        """A frame more; gives its number."""
        self._kept.append(Sound(self._end_frame, pcm))
        self._end_frame += 1
        # What is not sent yet is never dropped.
        while len(self._kept) > self._max_kept and self._kept[0].number < min(self._cursor, self.replied):
            self._kept.popleft()
        return self._end_frame - 1

    def control(self, message: Control) -> None:
        """Something that belongs behind the sound put in so far."""
        self._controls.append((self._end_frame, message))

    def take(self) -> Sound | Control | None:
        """What goes out next; None when nothing may go out now."""
        if self._controls and self._controls[0][0] <= self._cursor:
            frame, message = self._controls.popleft()
            if isinstance(message, Mark | End):
                self._unanswered.append((frame, message))
            return message
        if self._cursor >= self._end_frame or self._cursor - self.replied >= WINDOW_FRAMES:
            return None
        sound = self._kept[self._cursor - self._kept[0].number]
        self._cursor += 1
        return sound

    def marked(self, label: str) -> None:
        """The server has echoed a label."""
        for index, (_, mark) in enumerate(self._unanswered):
            if isinstance(mark, Mark) and mark.label == label:
                del self._unanswered[index]
                return

    def resumed(self, next_frame: int, next_reply: int) -> None:
        """On a new connection the server wants sound from `next_frame` on.

        Marks that were not echoed go out again, and so does End.

        Raises:
            ServiceError: when that sound was never there, or is no longer.
        """
        oldest = self._kept[0].number if self._kept else self._end_frame
        if not oldest <= next_frame <= self._end_frame:
            raise ServiceError(
                f"the server wants to go on with frame {next_frame}, "
                f"frames {oldest} to {self._end_frame} are kept; start a new session"
            )
        controls: list[tuple[int, Control]] = [*self._unanswered, *self._controls]
        self._controls = deque(
            sorted(controls, key=lambda entry: entry[0])
        )  # stable: order within a frame stays
        self._unanswered = []
        self._cursor, self.replied = next_frame, next_reply
