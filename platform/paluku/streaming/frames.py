"""PCM chunks of any size in, whole frames out, with a bound on what may wait."""

from collections import deque
from typing import NamedTuple

import numpy as np

from paluku.errors import PalukuError

BYTES_PER_SAMPLE = 2  # PCM16


class FrameOverflowError(PalukuError):
    """More sound waits than the buffer takes: the sender is faster than real time."""


class Frame(NamedTuple):
    """One frame of a session's sound."""

    number: int  # 0 for the session's first frame
    pcm: np.ndarray  # int16 [S]
    arrived_s: float  # when its last byte came


class FrameBuffer:
    """Cuts a byte stream of little-endian PCM16 into frames of `frame_samples`.

    A chunk that would leave more than `max_frames` whole frames waiting is refused whole.
    """

    def __init__(self, frame_samples: int, max_frames: int) -> None:
        self._frame_bytes = frame_samples * BYTES_PER_SAMPLE
        self._max_frames = max_frames
        self._partial = bytearray()
        self._whole: deque[tuple[bytes, float]] = deque()
        self._number = 0

    def __len__(self) -> int:
        """Whole frames waiting."""
        return len(self._whole)

    def push(self, pcm: bytes, now_s: float) -> int:
        """Append sound; returns how many frames it completed, all stamped `now_s`.

        Raises:
            FrameOverflowError: when the bound would be passed; the chunk is not taken.
        """
        completed = (len(self._partial) + len(pcm)) // self._frame_bytes
        if len(self._whole) + completed > self._max_frames:
            raise FrameOverflowError(
                f"{len(self._whole) + completed} frames would wait, {self._max_frames} may; "
                "send sound no faster than real time"
            )
        self._partial += pcm
        for start in range(0, completed * self._frame_bytes, self._frame_bytes):
            self._whole.append((bytes(self._partial[start : start + self._frame_bytes]), now_s))
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
        if not self._whole:
            return None
        pcm, arrived_s = self._whole.popleft()
        frame = Frame(self._number, np.frombuffer(pcm, "<i2"), arrived_s)
        self._number += 1
        return frame
