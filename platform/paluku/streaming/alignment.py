"""When a client's messages should arrive: so long before the tick that jitter seldom makes one miss it.

A message that comes just after the tick waits a whole frame for the next. The time from a message's
arrival to the tick that takes it is its margin; on the circle of one tick's length, the margins of a
session have a centre (its phase) and a spread (its jitter). The lead is where the centre should be.
"""

import cmath
import math
from collections import deque

from paluku.config import Config
from paluku.units import MS_PER_S


class AlignConfig(Config):
    """How leads are found. Milliseconds and frames as their names say."""

    initial_lead_ms: float = 12.0  # until there is something measured
    min_lead_ms: float = 3.0
    max_lead_ms: float = 25.0
    guard_ms: float = 3.0  # kept free below the lateness that is allowed for
    tolerance_ms: float = (
        3.0  # a phase so near its lead is left alone, and so is a lead that could shrink less
    )
    late_share: float = 0.02  # of the messages may be later than allowed for
    window_frames: int = 100  # the jitter of four seconds
    first_after_frames: int = 10
    every_frames: int = 25  # decisions, and the least distance of two shifts
    max_every_frames: int = 1_500  # for a client that does not follow


class Aligner:
    """One session's phase. Feed it each frame's margin; it says, seldom, how the client should shift."""

    def __init__(self, config: AlignConfig, tick_s: float) -> None:
        self._config = config
        self._tick_ms = tick_s * MS_PER_S
        self._margins: deque[float] = deque(maxlen=config.window_frames)
        self._lead_ms = self._bounded(config.initial_lead_ms)
        self._low_ms: float | None = None
        self._seen = 0  # frames since the last shift was asked for
        self._wait_frames = config.first_after_frames
        self._next_wait_frames = config.every_frames
        self._asked: tuple[float, float] | None = None  # the centre then, and the shift

    @property
    def lead_ms(self) -> float:
        """How long before the tick messages should arrive, on average."""
        return self._lead_ms

    @property
    def margin_low_ms(self) -> float | None:
        """The low end of the last margins, negative when they miss their tick; None at first."""
        return self._low_ms

    def observe(self, margin_s: float, now_s: float) -> float | None:  # noqa: ARG002 (frames are its clock)
        """One frame's margin. Gives the shift to ask for, in ms, later when positive; mostly None.

        The shift is the shorter way round the tick, so at most half of it.
        """
        config = self._config
        self._seen += 1
        if self._asked is not None and self._seen <= config.every_frames:
            return None  # the shift is on its way; these may be messages of either phase
        self._margins.append(margin_s * MS_PER_S % self._tick_ms)
        if self._seen < self._wait_frames or (self._seen - self._wait_frames) % config.every_frames:
            return None
        return self._decide()

    def _decide(self) -> float | None:
        centre = self._centre()
        apart = sorted(self._wrapped(margin - centre) for margin in self._margins)
        late_ms = -apart[int(self._config.late_share * len(apart))]
        self._low_ms = centre - late_ms
        self._settle_lead(late_ms + self._config.guard_ms)
        self._judge_client(centre)
        shift_ms = self._wrapped(centre - self._lead_ms)
        if abs(shift_ms) <= self._config.tolerance_ms:
            return None
        self._asked = (centre, shift_ms)
        self._margins.clear()
        self._seen = 0
        # Behind the frames that are passed over, enough new ones to see where the client went.
        self._wait_frames = self._next_wait_frames + self._config.first_after_frames
        return shift_ms

    def _settle_lead(self, wanted_ms: float) -> None:
        """Rise at once; fall only for a real gain, and on the whole window's word."""
        is_sure = len(self._margins) == self._config.window_frames
        if wanted_ms > self._lead_ms or (is_sure and wanted_ms < self._lead_ms - self._config.tolerance_ms):
            self._lead_ms = self._bounded(wanted_ms)

    def _judge_client(self, centre: float) -> None:
        """Ask a client that does not follow less and less often."""
        if self._asked is None:
            return
        before, shift_ms = self._asked
        self._asked = None
        stayed = abs(self._wrapped(centre - before)) < abs(self._wrapped(centre - (before - shift_ms)))
        longer = min(2 * self._next_wait_frames, self._config.max_every_frames)
        self._next_wait_frames = longer if stayed else self._config.every_frames

    def _centre(self) -> float:
        """The margins' circular mean, 0 to the tick's length; a late message's margin is a long one."""
        turn = 2 * math.pi / self._tick_ms
        mean = sum(cmath.exp(1j * turn * margin) for margin in self._margins)
        return cmath.phase(mean) / turn % self._tick_ms

    def _wrapped(self, ms: float) -> float:
        """The shorter way round the tick."""
        return (ms + self._tick_ms / 2) % self._tick_ms - self._tick_ms / 2

    def _bounded(self, lead_ms: float) -> float:
        return min(max(lead_ms, self._config.min_lead_ms), self._config.max_lead_ms)
