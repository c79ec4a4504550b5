"""Numbers about the tick: durations over a sliding window, and counts that only grow."""

from collections import Counter, deque

import numpy as np

from paluku.streaming.clock import Clock
from paluku.units import MS_PER_S

# One minute of ticks at 25 a second: enough for a p99, recent enough to act upon.
WINDOW_TICKS = 1_500


class TickMetrics:
    """Durations of ticks and named counters.

    `counts` is open to every part of the service: a name is added where it is first counted.
    """

    def __init__(self, clock: Clock, window: int = WINDOW_TICKS) -> None:
        self._clock = clock
        self._durations_s: deque[float] = deque(maxlen=window)
        self.counts: Counter[str] = Counter()

    def ticked(self, started_s: float) -> float:
        """A tick that began at `started_s` is done; returns its duration in seconds."""
        duration_s = self._clock.now() - started_s
        self._durations_s.append(duration_s)
        self.counts["ticks"] += 1
        return duration_s

    def tick_ms(self, percentile: int) -> float | None:
        """A percentile of the window's tick durations in milliseconds; None before the first."""
        if not self._durations_s:
            return None
        return float(np.percentile(np.fromiter(self._durations_s, float), percentile)) * MS_PER_S
