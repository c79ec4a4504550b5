"""The one file that leans on parts of Ray Serve which are not public (as of Ray 2.60).

A session holds a seat at one replica of a stage, and every tick must reach that replica. The public API
lacks two things:

- Addressing a replica. `RequestRouter.choose_replicas` (public, alpha) ranks candidates; it can neither
  refuse a call whose replica is gone nor choose a replica that Serve has begun to stop. So
  `_choose_replica_for_request` is overridden: a call with `options(session_id=address(id))` goes to that
  replica or fails, at once, without the queues in which calls of one request context can starve.
- Learning that a replica is stopping. It vanishes from `update_replicas`, as a dead one does, though it
  answers for `graceful_shutdown_wait_loop_s` more: the time in which its sessions can be moved. So the
  router keeps it addressable until a call to it fails, and says what it sees to whoever watches here.

Serve pickles the class by value, out of this module: what its methods share with the process around them
(the watchers, the exception's type) is imported inside of them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ray.serve._private.common import ReplicaID
from ray.serve._private.request_router.common import PendingRequest
from ray.serve._private.request_router.replica_wrapper import RunningReplica
from ray.serve._private.request_router.request_router import RequestRouter
from ray.serve.config import RequestRouterConfig

ADDRESS = "replica:"


def address(replica_id: str) -> str:
    """The `session_id` that sends a handle's calls to one replica."""
    return ADDRESS + replica_id


def router_config() -> RequestRouterConfig:
    """For every deployment whose replicas are addressed."""
    by_path: Any = f"{__name__}:{AddressingRouter.__name__}"  # Serve's signature says dict of every value
    return RequestRouterConfig(request_router_class=by_path)


class Picture(NamedTuple):
    """The replicas of a deployment that can be addressed, by id."""

    running: tuple[str, ...]
    leaving: tuple[str, ...]  # Serve has taken them out: being stopped, or reconfigured and soon back


class Watcher(Protocol):
    """Who is told of a deployment's replicas, always in the event loop it began to watch in."""

    def appeared(self, picture: Picture) -> None:
        """What there is now, whole."""
        ...

    def failed(self, replica_id: str) -> None:
        """A call to it failed: it has died, or cannot be reached at present."""
        ...


Tell = Callable[[Watcher], None]
_watchers: dict[tuple[str, str], list[tuple[asyncio.AbstractEventLoop, Watcher]]] = defaultdict(list)
_pictures: dict[tuple[str, str], Picture] = {}


def watch(app: str, deployment: str, watcher: Watcher) -> Callable[[], None]:
    """Tell `watcher` of a deployment's replicas from now on; gives what ends it.

    Serve looks for a deployment's replicas when one of this process's handles is first called.
    """
    watching = (asyncio.get_running_loop(), watcher)
    _watchers[app, deployment].append(watching)
    if (picture := _pictures.get((app, deployment))) is not None:
        watcher.appeared(picture)
    return lambda: _watchers[app, deployment].remove(watching)


def publish(app: str, deployment: str, picture: Picture) -> None:
    """Said by a router, in whichever thread Serve runs it."""
    _pictures[app, deployment] = picture
    _tell(app, deployment, lambda watcher: watcher.appeared(picture))


def publish_failed(app: str, deployment: str, replica_id: str) -> None:
    """Said by a router, in whichever thread Serve runs it."""
    _tell(app, deployment, lambda watcher: watcher.failed(replica_id))


def _tell(app: str, deployment: str, tell: Tell) -> None:
    for loop, watcher in list(_watchers[app, deployment]):
        loop.call_soon_threadsafe(tell, watcher)


class AddressingRouter(RequestRouter):
    """Sends a call to the replica it names; a call that names none, to any."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Called by Serve before the first replica is known."""
        super().initialize_state(**kwargs)
        self._leaving: dict[ReplicaID, RunningReplica] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve with those that run; what is missing since the last time is leaving."""
        before = dict(self._replicas)
        super().update_replicas(replicas)
        self._leaving = {
            replica_id: replica
            for replica_id, replica in (self._leaving | before).items()
            if replica_id not in self._replicas
        }
        self._publish()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Called by Serve when a call found it dead."""
        super().on_replica_actor_died(replica_id)
        self._drop(replica_id)

    def on_replica_actor_unavailable(self, replica_id: ReplicaID) -> None:
        """Called by Serve when a call could not reach it; a leaving one will not come back."""
        super().on_replica_actor_unavailable(replica_id)
        self._drop(replica_id)

    async def _choose_replica_for_request(
        self, pending_request: PendingRequest, *, is_retry: bool = False
    ) -> RunningReplica:
        address = pending_request.metadata.session_id
        if not address.startswith(ADDRESS):
            return await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        from paluku.serving.ports import StageLostError

        name = f"{self._deployment_id.name} replica {address.removeprefix(ADDRESS)}"
        for replica in (*self._replicas.values(), *self._leaving.values()):
            if address == ADDRESS + replica.replica_id.unique_id:
                if is_retry:  # Serve would try for ever, and a tick cannot wait
                    raise StageLostError(f"{name} did not take a call: it is dying, or has too many")
                return replica
        raise StageLostError(f"{name} is gone")

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Any of those that run: for calls that address none."""
        if pending_request is not None:
            # Else Serve tries again and again without ever yielding while all are busy.
            pending_request.routing_context.should_backoff = True
        return [candidate_replicas]

    def _drop(self, replica_id: ReplicaID) -> None:
        from paluku.serving.router import publish_failed

        self._leaving.pop(replica_id, None)
        publish_failed(self._deployment_id.app_name, self._deployment_id.name, replica_id.unique_id)
        self._publish()

    def _publish(self) -> None:
        from paluku.serving.router import Picture, publish

        picture = Picture(
            tuple(replica_id.unique_id for replica_id in self._replicas),
            tuple(replica_id.unique_id for replica_id in self._leaving),
        )
        publish(self._deployment_id.app_name, self._deployment_id.name, picture)
