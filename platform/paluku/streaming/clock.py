"""Time as something passed in: seconds that only go forward, and waiting until one of them."""

import asyncio
import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """What the tick asks of time. A test's clock stands still until it is advanced."""

    def now(self) -> float:
        """Seconds since some fixed instant; never goes back."""
        ...

    async def sleep_until(self, time_s: float) -> None:
        """Return once `now()` has reached `time_s`."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    async def sleep_until(self, time_s: float) -> None:
        """Yield to the event loop at least once, also when the time has passed already."""
        await asyncio.sleep(max(0.0, time_s - self.now()))
