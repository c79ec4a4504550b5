"""Numbers about the tick: durations over a sliding window, histograms and counts that only grow."""

from bisect import bisect_left
from collections import Counter, deque

import numpy as np

from paluku.streaming.clock import Clock
from paluku.units import MS_PER_S

# One minute of ticks at 25 a second: enough for a p99, recent enough to act upon. In time too: who is let in
# depends on it, and a house that a bad minute has emptied must not stay closed for want of new ticks.
WINDOW_TICKS = 1_500
WINDOW_S = 60.0

# Fine around the 40 ms of a tick, which is what everything is held against.
BOUNDS_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.12, 0.25, 1.0)


class Histogram:
    """Durations counted by bucket: one for each bound (up to and with it), and one above them."""

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One duration."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds


class _Window:
    """The last `length` durations, of the last minute."""

    def __init__(self, length: int, clock: Clock) -> None:
        self.histogram = Histogram()
        self._clock = clock
        self._recent_s: deque[float] = deque(maxlen=length)
        self._at_s: deque[float] = deque(maxlen=length)

    def add(self, seconds: float) -> None:
        self._recent_s.append(seconds)
        self._at_s.append(self._clock.now())
        self.histogram.add(seconds)

    def percentile_ms(self, percentile: int) -> float | None:
        oldest_s = self._clock.now() - WINDOW_S
        while self._at_s and self._at_s[0] < oldest_s:
            self._at_s.popleft()
            self._recent_s.popleft()
        if not self._recent_s:
            return None
        return float(np.percentile(np.fromiter(self._recent_s, float), percentile)) * MS_PER_S


class TickMetrics:
    """Durations of ticks and of each stage's steps, and named counters.

    `counts` is open to every part of the service: a name is added where it is first counted.
    """

    def __init__(self, clock: Clock, window: int = WINDOW_TICKS) -> None:
        self._clock = clock
        self._length = window
        self._ticks = _Window(window, clock)
        self._answers = _Window(window, clock)
        self._stages: dict[str, _Window] = {}
        self.counts: Counter[str] = Counter()

    def ticked(self, started_s: float) -> float:
        """A tick that began at `started_s` is done; returns its duration in seconds."""
        duration_s = self._clock.now() - started_s
        self._ticks.add(duration_s)
        self.counts["ticks"] += 1
        return duration_s

    def staged(self, stage: str, seconds: float) -> None:
        """A stage answered a batch after so many seconds, the way there and back included."""
        self._stages.setdefault(stage, _Window(self._length, self._clock)).add(seconds)

    def answered(self, seconds: float) -> None:
        """A frame was answered so long after it had come."""
        self._answers.add(seconds)

    def answer_ms(self, percentile: int) -> float | None:
        """A percentile of the last minute's frames' way through the service; None without any."""
        return self._answers.percentile_ms(percentile)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages seen so far."""
        return tuple(self._stages)

    @property
    def tick_histogram(self) -> Histogram:
        """Of all ticks."""
        return self._ticks.histogram

    @property
    def answer_histogram(self) -> Histogram:
        """Of all frames' ways through the service."""
        return self._answers.histogram

    @property
    def stage_histograms(self) -> dict[str, Histogram]:
        """Of all steps, by stage."""
        return {name: window.histogram for name, window in self._stages.items()}

    def tick_ms(self, percentile: int) -> float | None:
        """A percentile of the last minute's tick durations in milliseconds; None without any."""
        return self._ticks.percentile_ms(percentile)

    def stage_ms(self, stage: str, percentile: int) -> float | None:
        """The same of a stage's steps."""
        window = self._stages.get(stage)
        return window.percentile_ms(percentile) if window else None
