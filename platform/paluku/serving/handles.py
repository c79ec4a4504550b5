"""Stage replicas that run in other processes, called through Ray Serve."""

from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle

from paluku.config import resolve
from paluku.errors import SeatsExhausted
from paluku.serving.calls import alone
from paluku.serving.ports import (
    LeasedBatch,
    LeaseGoneError,
    Pressure,
    StageCard,
    StageLostError,
    StageStatus,
    Stepped,
)
from paluku.serving.router import address
from paluku.streaming.ports import Conditions, History

METHODS = ("card", "status", "open", "adjust", "prime", "step", "renew", "close")


class HandleReplica:
    """`serving.ports.Replica` over a Serve handle: one message a call, sent by value.

    By value, because a frame of every session is a few kilobytes: an object store reference would
    cost more than the bytes. The deployment must route with `router.AddressingRouter`.
    """

    def __init__(self, handle: DeploymentHandle[Any], replica_id: str) -> None:
        self._name = f"{handle.deployment_name} replica {replica_id}"
        self._replica_id = replica_id
        addressed = handle.options(_by_reference=False, session_id=address(replica_id))
        self._methods = {name: addressed.options(method_name=name) for name in METHODS}

    @property
    def replica_id(self) -> str:
        """Serve's, unique for ever."""
        return self._replica_id

    async def card(self, bundle: str) -> StageCard:
        """What it holds of a bundle (a digest), or of its newest when empty."""
        return resolve(StageCard, await self._call("card", bundle), f"the card of {self._name}")

    async def status(self, pressure: Pressure) -> StageStatus:
        """How it is, and how its caller is."""
        answer = await self._call("status", pressure.model_dump())
        return resolve(StageStatus, answer, f"the status of {self._name}")

    async def open(self, session: str, conditions: Conditions, bundle: str) -> int:
        """Lease a fresh seat. Raises SeatsExhausted, LeaseGoneError (no such bundle), StageLostError."""
        return await self._call("open", session, conditions.model_dump(), bundle)

    async def adjust(self, lease: int, conditions: Conditions) -> None:
        """Change a session's voice, style or sampling. Raises LeaseGoneError, StageLostError."""
        await self._call("adjust", lease, conditions.model_dump())

    async def prime(self, lease: int, history: History) -> None:
        """Bring a fresh seat to where a session was. Raises LeaseGoneError, StageLostError."""
        await self._call("prime", lease, *history)

    async def step(self, batch: LeasedBatch) -> Stepped:
        """One frame in, one frame out for each row. Raises StageLostError."""
        return Stepped(*await self._call("step", *batch))

    async def renew(self, leases: np.ndarray) -> np.ndarray:
        """Keep leases int64 [N]; gives bool [N], which of them are held. Raises StageLostError."""
        return await self._call("renew", leases)

    async def close(self, lease: int) -> None:
        """End a lease; nothing happens when it is gone. Raises StageLostError."""
        await self._call("close", lease)

    async def _call(self, method: str, *arguments: object) -> Any:
        # In an empty context: Serve gives all calls that are made in the context of one request (a
        # WebSocket's, say) one id, by which it cancels them when the request ends.
        call = self._send(method, arguments)
        return await alone(call)

    async def _send(self, method: str, arguments: tuple[object, ...]) -> Any:
        try:
            return await self._methods[method].remote(*arguments)
        except (SeatsExhausted, LeaseGoneError, StageLostError):
            raise  # by the replica; by the router, when there is no such replica
        # The other side of a port to another process: Ray, Serve and gRPC have dozens of ways to say
        # that it is not there.
        except Exception as error:
            raise self._lost(method, error) from error

    def _lost(self, method: str, error: Exception) -> StageLostError:
        return StageLostError(f"{self._name} did not answer {method!r} ({type(error).__name__})")
