"""What a lane asks of its stages, wherever they run, and what a stage says of itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from paluku.config import Config
from paluku.errors import ServiceError
from paluku.serving.machine import Machine
from paluku.streaming.memory import Update
from paluku.streaming.ports import Conditions, History

Value = TypeVar("Value")


class StageLostError(ServiceError):
    """A stage failed, hung or went away while it held sessions."""


class LeaseGoneError(ServiceError):
    """A lease that has expired, was taken over, or was never given by this replica."""


class StageCard(Config):
    """What a stage holds: the ingress learns the model's facts from here and never loads a model."""

    stage: str  # encode, converse, decode or fused
    bundle: str  # digest of the bundle's card
    codec: str  # the codec's hash: codes of one codec mean nothing to another
    num_seats: int
    sample_rate_hz: int
    frame_samples: int
    num_codebooks: int
    tokenizer: str  # its JSON
    reach_frames: int  # how much history primes this stage exactly
    # Only a stage with the encoder knows: how much sound it takes, of that history, and silence as codes.
    sound_reach_frames: int | None = None
    silence: tuple[int, ...] | None = None
    acoustic_delay_frames: int | None = None  # only Converse (and fused) knows


class LaneCard(Config):
    """What the stages of a lane hold together."""

    bundle: str
    codec: str
    sample_rate_hz: int
    frame_samples: int
    num_codebooks: int
    tokenizer: str
    reach_frames: int
    sound_reach_frames: int
    silence: tuple[int, ...]
    acoustic_delay_frames: int

    @staticmethod
    def of(cards: Sequence[StageCard]) -> "LaneCard":
        """The common card of stages that belong together.

        Raises:
            ServiceError: when they were loaded from different bundles.
        """
        own = {"stage", "num_seats", "reach_frames", "sound_reach_frames", "silence", "acoustic_delay_frames"}
        shared = [card.model_dump(exclude=own) for card in cards]
        for card, facts in zip(cards, shared, strict=True):
            if facts != shared[0]:
                different = sorted(key for key in facts if facts[key] != shared[0][key])
                raise ServiceError(
                    f"stages {cards[0].stage} and {card.stage} differ in {', '.join(different)}; "
                    "deploy them again from one bundle"
                )
        return LaneCard(
            **shared[0],
            reach_frames=max(card.reach_frames for card in cards),
            sound_reach_frames=_told(card.sound_reach_frames for card in cards),
            silence=_told(card.silence for card in cards),
            acoustic_delay_frames=_told(card.acoustic_delay_frames for card in cards),
        )


def _told(values: Iterable[Value | None]) -> Value:
    """The one that a stage knows."""
    return next(value for value in values if value is not None)


class Pressure(Config):
    """What an ingress tells its stages once a second, for their autoscaling: counts since the last time."""

    refused: int = 0  # sessions for which there was no seat
    late_ticks: int = 0


class StageStatus(Config):
    """What a replica says once a second."""

    bundles: tuple[str, ...]  # digests it can open seats of; new sessions get the last
    num_seats: int
    seats_used: int
    step_p99_ms: float | None = None
    machine: Machine | None = None


class RowStatus(IntEnum):
    """What became of one row of a batch."""

    STEPPED = 0
    GONE = 1  # no such lease here
    OUT_OF_ORDER = 2  # another frame was due


class LeasedBatch(NamedTuple):
    """One message per tick and lane: `N` sessions, each with one frame."""

    leases: np.ndarray  # int64 [N], without repetition
    frames: np.ndarray  # int64 [N], the frame's number in its session
    payload: np.ndarray  # int16 [N, ...] as in `streaming.ports.Batch`; fused gives [K | 2 + K | S]


class Stepped(NamedTuple):
    """The answer, row by row; a row that was not stepped holds zeros."""

    status: np.ndarray  # uint8 [N], RowStatus
    payload: np.ndarray  # int16 [N, ...]


@runtime_checkable
class Replica(Protocol):
    """One replica of a stage deployment, wherever it runs.

    Seats are leased: whoever opens one gets a lease, a number that every later call names. A lease that
    is neither stepped nor renewed for `lease_s` expires. Any exception but those stated means that the
    replica is lost.
    """

    @property
    def replica_id(self) -> str:
        """Unique for ever."""
        ...

    async def card(self, bundle: str) -> StageCard:
        """What it holds of a bundle (a digest), or of its newest when empty."""
        ...

    async def status(self, pressure: Pressure) -> StageStatus:
        """How it is, and how its caller is."""
        ...

    async def open(self, session: str, conditions: Conditions, bundle: str) -> int:
        """Lease a fresh seat of a bundle (a digest) and return the lease.

        A seat that the same session still holds here is closed first: its old ingress is gone.

        Raises:
            SeatsExhausted: when there is none.
            LeaseGoneError: when it does not hold that bundle.
        """
        ...

    async def adjust(self, lease: int, conditions: Conditions) -> None:
        """Change a session's voice, style or sampling. Raises LeaseGoneError."""
        ...

    async def prime(self, lease: int, history: History) -> None:
        """Bring a fresh seat to where a session was, between the steps of others. Raises LeaseGoneError.

        The next frame it takes is `history.end`.
        """
        ...

    async def step(self, batch: LeasedBatch) -> Stepped:
        """One frame in, one frame out for each row; a fresh seat begins with frame 0."""
        ...

    async def renew(self, leases: np.ndarray) -> np.ndarray:
        """Keep leases (int64 [N]) whose sessions are silent; gives bool [N], which of them are held."""
        ...

    async def close(self, lease: int) -> None:
        """End a lease; nothing happens when it is gone."""
        ...


class Member(NamedTuple):
    """A replica as its fleet sees it."""

    replica: Replica
    status: StageStatus
    is_leaving: bool  # Serve will stop it: it still answers, for as long as it takes to move its sessions


@runtime_checkable
class Fleet(Protocol):
    """The replicas of one stage deployment, as they come and go."""

    @property
    def members(self) -> Sequence[Member]:
        """Those that answer, in a stable order."""
        ...

    def lost(self, replica_id: str) -> None:
        """A call to it failed: it is no member until it answers again."""
        ...

    async def start(self, pressure: Callable[[], Pressure]) -> None:
        """Find the replicas, then watch them: `pressure` is asked before each round of `status`."""
        ...

    async def stop(self) -> None:
        """Watch no more."""
        ...


class Pushed(NamedTuple):
    """What became of updates that were pushed, by token."""

    claimed: tuple[str, ...] = ()  # another owner has them, or they have ended
    gaps: tuple[str, ...] = ()  # an earlier part is missing there: all of the memory mends it


@runtime_checkable
class Snapshots(Protocol):
    """Where the sessions' memory outlives their ingress. A token is the session's secret, hashed."""

    async def push(self, owner: str, updates: Mapping[str, Update]) -> Pushed:
        """Keep what is new of some sessions, by token."""
        ...

    async def claim(self, owner: str, token: str) -> Update | None:
        """All of a session, which is the claimer's from now on; None when it is not known (any more)."""
        ...

    async def forget(self, tokens: Sequence[str]) -> None:
        """They have ended well."""
        ...
