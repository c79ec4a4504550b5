"""PCM chunks of any size in, whole frames out, with a bound on what may wait."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paluku.errors import PalukuError

BYTES_PER_SAMPLE = 2  # PCM16


class FrameOverflowError(PalukuError):
    """More sound waits than the buffer takes: the sender is faster than real time."""


class Frame(NamedTuple):
    """One frame of a session's sound."""

    number: int  # counted from the session's first
    pcm: np.ndarray  # int16 [S]
    arrived_s: float  # when its last byte came


class FrameBuffer:
    """Cuts a byte stream of little-endian PCM16 into frames of `frame_samples`.

    A chunk that would leave more than `max_frames` whole frames waiting is refused whole.
    """

    def __init__(self, frame_samples: int, max_frames: int, first: int = 0) -> None:
        self._frame_bytes = frame_samples * BYTES_PER_SAMPLE
        self.max_frames = max_frames
        self._partial = bytearray()
        self._whole: deque[Frame] = deque()
        self._number = first  # of the next whole frame

    def __len__(self) -> int:
        """Whole frames waiting."""
        return len(self._whole)

    def push(self, pcm: bytes, now_s: float) -> int:
        """Append sound; returns how many frames it completed, all stamped `now_s`.

        Raises:
            FrameOverflowError: when the bound would be passed; the chunk is not taken.
        """
        completed = (len(self._partial) + len(pcm)) // self._frame_bytes
        if len(self._whole) + completed > self.max_frames:
            raise FrameOverflowError(
                f"{len(self._whole) + completed} frames would wait, {self.max_frames} may; "
                "send sound no faster than real time"
            )
        self._partial += pcm
        for start in range(0, completed * self._frame_bytes, self._frame_bytes):
            sound = np.frombuffer(bytes(self._partial[start : start + self._frame_bytes]), "<i2")
            self._whole.append(Frame(self._number, sound, now_s))
            self._number += 1
        del self._partial[: completed * self._frame_bytes]
        return completed

    def finish(self, now_s: float) -> int:
        """No more sound will come: a started frame is filled up with silence. Returns 1 when there was one.

        Raises:
            FrameOverflowError: as `push`.
        """
        missing = -len(self._partial) % self._frame_bytes
        return self.push(bytes(missing), now_s)

    def pop(self) -> Frame | None:
        """The oldest whole frame, or None."""
        return self._whole.popleft() if self._whole else None

    def silence(self, now_s: float) -> Frame:
        """A whole frame of silence where no sound waits, as if it had come now."""
        assert not self._whole, f"{len(self._whole)} frames wait; silence would overtake them"
        self.push(bytes(self._frame_bytes - len(self._partial)), now_s)
        return self._whole.popleft()

    def put_back(self, frames: Sequence[Frame]) -> None:
        """Frames that were popped, oldest first, and could not be used; the bound does not hold for them."""
        self._whole.extendleft(reversed(frames))
