"""When a client's frames should be full, so that they reach the server shortly before its tick.

The server says how long after Ready its next tick comes and how much earlier sound should arrive; later it
corrects that by shifts. Instants are seconds of the client's own clock.
"""

import numpy as np

from paluku.protocol.messages import Ready
from paluku.units import MS_PER_S


class Alignment:
    """The phase of a client's frames."""

    def __init__(self, ready: Ready, received_s: float, round_trip_s: float) -> None:
        self.frame_s = ready.frame_ms / MS_PER_S
        # Ready took half a round trip to get here, and sound takes half a one to get there.
        self._full_s = received_s + (ready.tick_in_ms - ready.lead_ms) / MS_PER_S - round_trip_s

    def shift(self, shift_ms: float) -> None:
        """Frames should be full so much later."""
        self._full_s += shift_ms / MS_PER_S

    def wait_s(self, full_s: float) -> float:
        """How much later than `full_s` the next good instant is: from 0 to a frame."""
        return (self._full_s - full_s) % self.frame_s

    def nearest_s(self, full_s: float) -> float:
        """How much later (or earlier, when negative) the closest good instant is: within half a frame."""
        wait_s = self.wait_s(full_s)
        return wait_s if wait_s <= self.frame_s / 2 else wait_s - self.frame_s


class MicrophoneFramer:
    """Cuts sound that comes in real time into frames that are full at the right instants.

    A microphone cannot wait: to be full earlier a frame gets silence in front, to be full later it loses
    samples. Corrections are at most half a frame, and seldom.
    """

    def __init__(self, frame_samples: int) -> None:
        self._frame_samples = frame_samples
        self._partial = np.zeros(0, np.int16)
        self._to_drop = 0

    def correct(self, samples: int) -> None:
        """The coming frames are full so many samples later; earlier when negative."""
        if samples >= 0:
            self._to_drop += samples
            return
        kept = max(0, self._to_drop + samples)
        silence = -samples - (self._to_drop - kept)
        self._to_drop = kept
        self._partial = np.concatenate([self._partial, np.zeros(silence, np.int16)])

    def push(self, pcm: np.ndarray) -> list[np.ndarray]:
        """int16 `[S]` in, whole frames out."""
        dropped = min(self._to_drop, len(pcm))
        self._to_drop -= dropped
        sound = np.concatenate([self._partial, pcm[dropped:]])
        whole = len(sound) // self._frame_samples
        self._partial = sound[whole * self._frame_samples :]
        return list(sound[: whole * self._frame_samples].reshape(whole, self._frame_samples))

    @property
    def missing_samples(self) -> int:
        """How many samples the next frame lacks."""
        return self._frame_samples - len(self._partial) + self._to_drop

    def finish(self) -> list[np.ndarray]:
        """No more sound: a started frame is filled up with silence."""
        return self.push(np.zeros(self.missing_samples, np.int16)) if len(self._partial) else []
