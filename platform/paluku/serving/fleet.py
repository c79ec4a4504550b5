"""The replicas of a stage deployment, as one ingress sees them come and go."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ray.serve.handle import DeploymentHandle

from paluku.log import logger
from paluku.serving.calls import alone
from paluku.serving.handles import HandleReplica
from paluku.serving.ports import Member, Pressure, Replica, StageStatus
from paluku.serving.router import Picture, watch
from paluku.streaming.clock import Clock

log = logger(__name__)

ASK_EVERY_S = 1.0
# A replica that says nothing for so long is no member: it hangs, or loads a model in its event loop.
PATIENCE_S = 3.0


class _Known:
    """A replica, and what it last said of itself."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.is_leaving = False
        self.status: StageStatus | None = None  # none: it is no member
        self.question: asyncio.Task[None] | None = None
        self.asked_s = 0.0

    @property
    def is_asked(self) -> bool:
        return self.question is not None and not self.question.done()

    def out(self) -> None:
        """No member until it answers a question that is yet to be asked."""
        self.status = None
        if self.question is not None:
            self.question.cancel()
            self.question = None


class AskingFleet:
    """`serving.ports.Fleet`, told which replicas there are, and asking each how it is once a second."""

    def __init__(self, connect: Callable[[str], Replica], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._watching: asyncio.Task[None] | None = None

    @property
    def members(self) -> Sequence[Member]:
        """Those that answer, in the order in which they came."""
        return [
            Member(known.replica, known.status, known.is_leaving)
            for known in self._known.values()
            if known.status is not None
        ]

    def lost(self, replica_id: str) -> None:
        """A call to it failed: it is no member until it answers again."""
        if (known := self._known.get(replica_id)) is not None:
            known.out()

    def appeared(self, picture: Picture) -> None:
        """All replicas that can be addressed now; a new one is a member after its first answer."""
        present = (*picture.running, *picture.leaving)
        for replica_id in self._known.keys() - set(present):
            self._known.pop(replica_id).out()
        for replica_id in present:
            if replica_id not in self._known:
                self._known[replica_id] = known = _Known(self._connect(replica_id))
                self._ask(known, Pressure())
            self._known[replica_id].is_leaving = replica_id in picture.leaving

    def failed(self, replica_id: str) -> None:
        """As `lost`, said by the router."""
        self.lost(replica_id)

    async def start(self, pressure: Callable[[], Pressure]) -> None:
        """Watch the replicas: `pressure` is asked before each round of `status`."""
        self._watching = alone(self._watch(pressure))

    async def stop(self) -> None:
        """Watch no more."""
        tasks = [known.question for known in self._known.values() if known.question is not None]
        if self._watching is not None:
            tasks.append(self._watching)
            self._watching = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, pressure: Callable[[], Pressure]) -> None:
        while True:
            said = pressure()
            for known in self._known.values():
                if known.is_asked and self._clock.now() - known.asked_s >= PATIENCE_S:
                    known.out()
                if not known.is_asked:
                    self._ask(known, said)
            await self._clock.sleep_until(self._clock.now() + ASK_EVERY_S)

    def _ask(self, known: _Known, pressure: Pressure) -> None:
        known.asked_s = self._clock.now()
        known.question = alone(self._answer(known, pressure))

    async def _answer(self, known: _Known, pressure: Pressure) -> None:
        try:
            known.status = await known.replica.status(pressure)
        # A replica is another process behind a port: whatever it raises, it is out.
        except Exception as error:  # noqa: BLE001
            if known.status is not None:
                log.info("replica %s is out (%s)", known.replica.replica_id, type(error).__name__)
            known.status = None


class HandleFleet(AskingFleet):
    """The replicas behind a Serve handle whose deployment routes with `router.AddressingRouter`."""

    def __init__(self, handle: DeploymentHandle[Any], clock: Clock) -> None:
        super().__init__(partial(HandleReplica, handle), clock)
        self._handle = handle.options(_by_reference=False, method_name="status")
        self._app, self._deployment = handle.app_name, handle.deployment_name
        self._unwatch: Callable[[], None] | None = None
        self._waking: asyncio.Task[None] | None = None

    async def start(self, pressure: Callable[[], Pressure]) -> None:
        """Find the replicas, then watch them; returns before the first is a member."""
        self._unwatch = watch(self._app, self._deployment, self)
        self._waking = alone(self._wake())
        await super().start(pressure)

    async def stop(self) -> None:
        """Watch no more."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._waking is not None:
            self._waking.cancel()
            await asyncio.gather(self._waking, return_exceptions=True)
            self._waking = None
        await super().stop()

    async def _wake(self) -> None:
        """Serve looks for replicas when a handle is first called, and not before."""
        try:
            await self._handle.remote(Pressure().model_dump())
        # It has done its work by being sent; the first question proper will tell what is wrong.
        except Exception as error:  # noqa: BLE001
            log.info("a first call to %s failed (%s)", self._deployment, type(error).__name__)
