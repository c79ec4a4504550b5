"""Seats on loan: who holds which by what number, until when, and which frame it takes next.

A lease outlives a caller's silence by `lease_s`, no longer: a caller that died leaves no seat taken.
Whoever opens for a session that has a seat gets it anew; the old lease is gone from then on. So one
session never holds two seats, and an ingress that lost its session cannot disturb the next one.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from paluku.errors import SeatsExhausted
from paluku.streaming.clock import Clock
from paluku.streaming.seats import SeatTable


class Refusal(Enum):
    """Why a lease may not do what it asked for."""

    GONE = "gone"  # expired, closed, taken over, or never given here
    OUT_OF_ORDER = "out of order"  # another frame is due, or the seat is no longer (or not yet) ready


class Opened(NamedTuple):
    """A new lease, its seat, and the seat that the same session held until now."""

    lease: int
    seat: int
    closed: int | None


@dataclass(slots=True)
class _Holder:
    session: str
    seat: int
    seen_s: float
    next_frame: int = 0
    is_priming: bool = False


def draw_lease() -> int:
    """A number nobody guesses: positive, 63 bits."""
    return secrets.randbelow(2**63 - 1) + 1


class LeaseTable:
    """`num_seats` seats, each held under a lease or free.

    Nothing expires by itself: `expire` is called before whatever else, and gives the seats to close.
    """

    def __init__(
        self, num_seats: int, lease_s: float, clock: Clock, draw: Callable[[], int] = draw_lease
    ) -> None:
        self._seats = SeatTable(num_seats)
        self._lease_s, self._clock, self._draw = lease_s, clock, draw
        self._holders: dict[int, _Holder] = {}

    @property
    def sessions(self) -> set[str]:
        """Who holds a seat."""
        return {holder.session for holder in self._holders.values()}

    def open(self, session: str) -> Opened:
        """A fresh seat for a session, which begins with frame 0; its old one is free before.

        Raises:
            SeatsExhausted: when there is none.
        """
        held = [lease for lease, holder in self._holders.items() if holder.session == session]
        closed = self.close(held[0]) if held else None
        seat, lease = self._seats.take(), self._draw()
        assert lease not in self._holders, f"lease {lease} was drawn twice"
        self._holders[lease] = _Holder(session, seat, self._clock.now())
        return Opened(lease, seat, closed)

    def exhausted(self) -> SeatsExhausted:
        """What to answer when nobody else can be seated."""
        return self._seats.exhausted()

    def seat(self, lease: int) -> int | None:
        """The seat of a lease; None when it is gone."""
        holder = self._holders.get(lease)
        return None if holder is None else holder.seat

    def take(self, lease: int, frame: int) -> int | Refusal:
        """The seat of a lease whose next frame is `frame`, which counts as taken."""
        holder = self._holders.get(lease)
        if holder is None:
            return Refusal.GONE
        holder.seen_s = self._clock.now()
        if holder.is_priming or frame != holder.next_frame:
            return Refusal.OUT_OF_ORDER
        holder.next_frame += 1
        return holder.seat

    def begin_priming(self, lease: int) -> int | Refusal:
        """The seat of a lease that was neither stepped nor primed; it takes no frame until it is primed."""
        holder = self._holders.get(lease)
        if holder is None:
            return Refusal.GONE
        if holder.is_priming or holder.next_frame:
            return Refusal.OUT_OF_ORDER
        holder.is_priming = True
        return holder.seat

    def primed(self, lease: int, next_frame: int) -> None:
        """The seat has lived through the frames before `next_frame`."""
        holder = self._holders[lease]
        assert holder.is_priming, f"lease {lease} is not being primed"
        holder.is_priming, holder.next_frame, holder.seen_s = False, next_frame, self._clock.now()

    def renew(self, lease: int) -> bool:
        """Another `lease_s`; False when the lease is gone."""
        holder = self._holders.get(lease)
        if holder is not None:
            holder.seen_s = self._clock.now()
        return holder is not None

    def close(self, lease: int) -> int | None:
        """End a lease; gives the seat it had, or None when it is gone."""
        holder = self._holders.pop(lease, None)
        if holder is None:
            return None
        self._seats.release(holder.seat)
        return holder.seat

    def expire(self) -> list[int]:
        """End the leases nobody has asked for within `lease_s`; gives their seats. Priming is asking."""
        since_s = self._clock.now() - self._lease_s
        late = [lease for lease, h in self._holders.items() if h.seen_s < since_s and not h.is_priming]
        return [seat for lease in late if (seat := self.close(lease)) is not None]
