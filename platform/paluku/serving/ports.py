"""What a lane asks of its stages, wherever they run, and what a stage says of itself."""

from collections.abc import Sequence
from typing import Protocol

from paluku.config import Config
from paluku.errors import ServiceError
from paluku.streaming.ports import Batch, Conditions


class StageLostError(ServiceError):
    """A stage failed, hung or went away while it held sessions."""


class SeatTakenError(ServiceError):
    """A seat that another ingress has opened since."""


class StageCard(Config):
    """What a stage holds: the ingress learns the model's facts from here and never loads a model."""

    stage: str
    bundle: str  # digest of the bundle's card
    num_seats: int
    sample_rate_hz: int
    frame_samples: int
    tokenizer: str  # its JSON
    acoustic_delay_frames: int | None = None  # only Converse knows


class LaneCard(Config):
    """What the three stages of a lane hold together."""

    bundle: str
    num_seats: int
    sample_rate_hz: int
    frame_samples: int
    tokenizer: str
    acoustic_delay_frames: int

    @staticmethod
    def of(cards: Sequence[StageCard]) -> "LaneCard":
        """The common card of stages that belong together.

        Raises:
            ServiceError: when they were loaded from different bundles, or have different seats.
        """
        shared = [card.model_dump(exclude={"stage", "acoustic_delay_frames"}) for card in cards]
        for card, facts in zip(cards, shared, strict=True):
            if facts != shared[0]:
                different = sorted(key for key in facts if facts[key] != shared[0][key])
                raise ServiceError(
                    f"stages {cards[0].stage} and {card.stage} differ in {', '.join(different)}; "
                    "deploy them again from one bundle"
                )
        (delay,) = [card.acoustic_delay_frames for card in cards if card.acoustic_delay_frames is not None]
        return LaneCard(**shared[0], acoustic_delay_frames=delay)


class AsyncStage(Protocol):
    """`streaming.ports.Stage`, awaited. Any exception means that the stage is lost."""

    async def open(self, seat: int, conditions: Conditions) -> None:
        """Make a seat fresh for a new session."""
        ...

    async def step(self, batch: Batch) -> Batch:
        """One frame in, one frame out for each seat of the batch."""
        ...

    async def close(self, seat: int) -> None:
        """End a session."""
        ...
