"""Stages that run in other Serve replicas."""

from ray.serve.handle import DeploymentHandle

from paluku.config import resolve
from paluku.serving.ports import StageCard
from paluku.streaming.ports import Batch, Conditions


class HandleStage:
    """`serving.ports.AsyncStage` over a Serve handle: one message a call, sent by value.

    By value, because a frame of every session is a few kilobytes: an object store reference would
    cost more than the bytes.
    """

    def __init__(self, handle: DeploymentHandle, owner: str) -> None:
        self._handle = handle.options(_by_reference=False)
        self._owner = owner  # names this ingress process to the stage

    async def card(self) -> StageCard:
        """What the stage holds."""
        return resolve(StageCard, await self._handle.card.remote(), "a stage's card")

    async def open(self, seat: int, conditions: Conditions) -> None:
        """Make a seat fresh for a new session."""
        await self._handle.open.remote(self._owner, seat, conditions.model_dump())

    async def step(self, batch: Batch) -> Batch:
        """One frame in, one frame out for each seat of the batch."""
        return Batch(batch.seats, await self._handle.step.remote(self._owner, batch.seats, batch.payload))

    async def close(self, seat: int) -> None:
        """End a session."""
        await self._handle.close.remote(self._owner, seat)
