"""Who sits where: a fixed number of seats, leased one by one, and the life of each."""

import heapq
from enum import Enum

from paluku.errors import SeatsExhausted


class SeatState(Enum):
    """A seat's life is a ring: free, opening, live, closing, free.

    An opening seat may go straight to closing, when its stages could not be opened.
    """

    FREE = "free"
    OPENING = "opening"
    LIVE = "live"
    CLOSING = "closing"


_NEXT = {
    SeatState.FREE: {SeatState.OPENING},
    SeatState.OPENING: {SeatState.LIVE, SeatState.CLOSING},
    SeatState.LIVE: {SeatState.CLOSING},
    SeatState.CLOSING: {SeatState.FREE},
}


class SeatTable:
    """`num_seats` seats; `lease` always gives the lowest free one.

    Each method is one step of the ring; a step from the wrong state is a mistake of the caller and
    raises RuntimeError.
    """

    def __init__(self, num_seats: int, retry_s: float = 5.0) -> None:
        if num_seats < 1:
            raise ValueError(f"a seat table needs at least one seat, not {num_seats}")
        self._states = [SeatState.FREE] * num_seats
        self._free = list(range(num_seats))  # a heap
        self._retry_s = retry_s

    @property
    def num_seats(self) -> int:
        """How many seats there are."""
        return len(self._states)

    @property
    def num_used(self) -> int:
        """How many seats are not free."""
        return self.num_seats - len(self._free)

    def state(self, seat: int) -> SeatState:
        """Where a seat is in its life."""
        self._check_range(seat)
        return self._states[seat]

    def lease(self) -> int:
        """The lowest free seat, now opening.

        Raises:
            SeatsExhausted: when there is none; nobody is ever queued.
        """
        if not self._free:
            raise SeatsExhausted(
                f"all {self.num_seats} seats are taken; try again in {self._retry_s:g} s", self._retry_s
            )
        seat = heapq.heappop(self._free)
        self._go(seat, SeatState.OPENING)
        return seat

    def opened(self, seat: int) -> None:
        """The stages are ready for the seat's first frame."""
        self._go(seat, SeatState.LIVE)

    def closing(self, seat: int) -> None:
        """The session has ended; frames still under way belong to it, so the seat is not free yet."""
        self._go(seat, SeatState.CLOSING)

    def release(self, seat: int) -> None:
        """Nothing of the session is under way any more: the seat may be leased again."""
        self._go(seat, SeatState.FREE)
        heapq.heappush(self._free, seat)

    def _go(self, seat: int, to: SeatState) -> None:
        self._check_range(seat)
        now = self._states[seat]
        if to not in _NEXT[now]:
            allowed = ", ".join(state.value for state in _NEXT[now])
            raise RuntimeError(f"seat {seat} is {now.value} and cannot become {to.value}, only {allowed}")
        self._states[seat] = to

    def _check_range(self, seat: int) -> None:
        if not 0 <= seat < self.num_seats:
            raise RuntimeError(f"seat {seat} does not exist; there are seats 0 to {self.num_seats - 1}")
