"""A clock that stands still until it is advanced."""

import asyncio
import heapq
import itertools


class FakeClock:
    """Implements `paluku.streaming.clock.Clock`."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now_s

    async def sleep_until(self, time_s: float) -> None:
        if time_s <= self._now_s:
            await asyncio.sleep(0)
            return
        waking = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (time_s, next(self._order), waking))
        await waking

    def advance(self, seconds: float) -> None:
        """Let time pass; whoever it wakes runs when the caller next awaits."""
        self._now_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now_s + 1e-9:
            waking = heapq.heappop(self._sleepers)[2]
            if not waking.done():
                waking.set_result(None)
