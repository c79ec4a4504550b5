"""Where a session sits: one replica of each stage. Pure: counts in, a path out.

The stage with the least room is decided first, on its emptiest replica; the other stages follow that
replica along the lanes that exist, so that sessions share lanes: each lane in use is a message a tick.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from paluku.errors import SeatsExhausted
from paluku.units import MS_PER_S

# A stage whose p99 step takes more of the tick has no time for another session: the rest of the tick
# goes to the calls and to the other stages' steps.
MAX_BUSY_SHARE = 0.7

# Seconds after which a refused session may come back.
RETRY_S = 1.0

Path = tuple[str, ...]


class Candidate(NamedTuple):
    """A replica of one stage, as it is counted here and as it last said."""

    replica_id: str
    num_seats: int
    used: int  # of its seats
    step_p99_ms: float | None  # None before its first steps
    is_leaving: bool
    bundles: tuple[str, ...]  # digests it can open seats of

    @property
    def free_share(self) -> float:
        """The part of its seats that is free; 0 when it is over-full."""
        return max(0, self.num_seats - self.used) / self.num_seats if self.num_seats else 0.0


def choose(
    stages: Sequence[Sequence[Candidate]],
    lanes: Mapping[Path, int],
    bundle: str,
    tick_s: float,
    *,
    moving: bool,
    preferred: Path | None = None,
    retry_s: float = RETRY_S,
    busy_share: float = MAX_BUSY_SHARE,
) -> Path:
    """A replica of each stage, in the stages' order.

    `lanes` holds the sessions on each path in use. A session that is `moving` is let in however busy a
    replica is: it is served already; another is where the p99 of the step time is at most `busy_share` of the
    tick, and if that is nowhere, where nobody sits. `preferred` is taken when all of it can be.

    Raises:
        SeatsExhausted: when a stage has no seat of that bundle free, or no time for one more.
    """
    assert stages, "a session sits on at least one stage"
    busy_ms = busy_share * tick_s * MS_PER_S
    rooms = [_room([c for c in stage if _has_seat(c, bundle)], busy_ms, moving) for stage in stages]
    for stage, room in zip(stages, rooms, strict=True):
        if not room:
            raise SeatsExhausted(_why(stage, bundle), retry_s)
    if preferred is not None and _fits(preferred, rooms):
        return preferred
    return _packed(rooms, [lane for lane, sessions in lanes.items() if sessions > 0])


def _has_seat(candidate: Candidate, bundle: str) -> bool:
    return not candidate.is_leaving and bundle in candidate.bundles and candidate.free_share > 0


def _room(candidates: Sequence[Candidate], busy_ms: float, moving: bool) -> dict[str, Candidate]:
    """Who takes the session, by name."""
    calm = [c for c in candidates if moving or c.step_p99_ms is None or c.step_p99_ms <= busy_ms]
    # Where nobody sits, the slow steps were for nobody, or for sessions that have left: they say nothing
    # about one session alone.
    return {c.replica_id: c for c in calm or [c for c in candidates if c.used == 0]}


def _why(stage: Sequence[Candidate], bundle: str) -> str:
    staying = [c for c in stage if not c.is_leaving]
    if not staying:
        return "no replica of a stage answers; try again in a moment"
    holding = [c for c in staying if bundle in c.bundles]
    if not holding:
        return f"no replica of a stage holds bundle {bundle[:12]} any more; try again in a moment"
    if all(c.free_share == 0 for c in holding):
        return f"all {sum(c.num_seats for c in holding)} seats are taken; try again later"
    return "the replicas with free seats are too busy for one session more; try again later"


def _fits(path: Path, rooms: Sequence[Mapping[str, Candidate]]) -> bool:
    return len(path) == len(rooms) and all(replica in room for replica, room in zip(path, rooms, strict=True))


def _packed(rooms: Sequence[Mapping[str, Candidate]], lanes: Sequence[Path]) -> Path:
    bottleneck = min(range(len(rooms)), key=lambda stage: _room_share(rooms[stage]))
    anchor = min(rooms[bottleneck].values(), key=lambda c: (-c.free_share, c.replica_id)).replica_id
    of_anchor = [lane for lane in lanes if len(lane) == len(rooms) and lane[bottleneck] == anchor]
    if open_lanes := [lane for lane in of_anchor if _fits(lane, rooms)]:
        # The lane with the most room on its fullest replica fills last.
        return min(open_lanes, key=lambda lane: (-_narrowest(lane, rooms), lane))
    return tuple(
        anchor if stage == bottleneck else _partner(stage, room, of_anchor, lanes)
        for stage, room in enumerate(rooms)
    )


def _partner(
    stage: int, room: Mapping[str, Candidate], of_anchor: Sequence[Path], lanes: Sequence[Path]
) -> str:
    """One already joined with the anchor; else one in few lanes, so that each anchor finds its own."""
    joined = {lane[stage] for lane in of_anchor}
    in_lanes = [lane[stage] for lane in lanes if len(lane) > stage]

    def cost(candidate: Candidate) -> tuple[bool, int, float, str]:
        replica = candidate.replica_id
        return replica not in joined, in_lanes.count(replica), -candidate.free_share, replica

    return min(room.values(), key=cost).replica_id


def _room_share(room: Mapping[str, Candidate]) -> float:
    """The free part of all seats of the replicas that take sessions."""
    return sum(c.num_seats - c.used for c in room.values()) / sum(c.num_seats for c in room.values())


def _narrowest(lane: Path, rooms: Sequence[Mapping[str, Candidate]]) -> float:
    return min(_shares(lane, rooms))


def _shares(lane: Path, rooms: Sequence[Mapping[str, Candidate]]) -> Iterator[float]:
    return (room[replica].free_share for replica, room in zip(lane, rooms, strict=True))
