"""Sound that came faster than it can be stepped waits here, so that a session is never given too much."""


class Pace:
    """Lets through as much sound as the session may hold, and more with each frame it has answered.

    A client may send a whole recording at once; a session refuses sound that is seconds ahead.
    """

    def __init__(self, frame_bytes: int, max_held_frames: int) -> None:
        self._frame_bytes = frame_bytes
        self._max_held_bytes = max_held_frames * frame_bytes
        self._waiting = bytearray()
        self._held_bytes = 0

    @property
    def behind_frames(self) -> int:
        """Frames of sound that are not answered yet."""
        return -(-(len(self._waiting) + self._held_bytes) // self._frame_bytes)

    def push(self, pcm: bytes) -> bytes:
        """More sound; gives what may be heard now."""
        self._waiting += pcm
        return self._take()

    def stepped(self) -> bytes:
        """The session has answered a frame; gives what may be heard now."""
        self._held_bytes = max(0, self._held_bytes - self._frame_bytes)
        return self._take()

    def clear(self) -> None:
        """Forget what the session does not have yet."""
        self._waiting.clear()

    def _take(self) -> bytes:
        room = max(0, self._max_held_bytes - self._held_bytes)
        taken = bytes(self._waiting[:room])
        del self._waiting[: len(taken)]
        self._held_bytes += len(taken)
        return taken
