"""Who sits where: a fixed number of seats, taken one by one."""

import heapq

from paluku.errors import SeatsExhausted

RETRY_S = 5.0


class SeatTable:
    """`num_seats` seats; `take` always gives the lowest free one."""

    def __init__(self, num_seats: int, retry_s: float = RETRY_S) -> None:
        if num_seats < 1:
            raise ValueError(f"a seat table needs at least one seat, not {num_seats}")
        self.num_seats = num_seats
        self._free = list(range(num_seats))  # a heap
        self._retry_s = retry_s

    @property
    def num_used(self) -> int:
        """How many seats are not free."""
        return self.num_seats - len(self._free)

    def take(self) -> int:
        """The lowest free seat.

        Raises:
            SeatsExhausted: when there is none; nobody is ever queued.
        """
        if not self._free:
            raise self.exhausted()
        return heapq.heappop(self._free)

    def release(self, seat: int) -> None:
        """The seat may be taken again."""
        assert 0 <= seat < self.num_seats, f"there are seats 0 to {self.num_seats - 1}, not {seat}"
        assert seat not in self._free, f"seat {seat} is free already"
        heapq.heappush(self._free, seat)

    def exhausted(self) -> SeatsExhausted:
        """What to answer when nobody else can be seated."""
        return SeatsExhausted(
            f"all {self.num_seats} seats are taken; try again in {self._retry_s:g} s", self._retry_s
        )
