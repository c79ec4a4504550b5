"""What a session is kept by while nobody looks: its leases renewed, its memory copied elsewhere."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from paluku.serving.calls import call
from paluku.serving.ports import Replica, Snapshots, StageLostError
from paluku.serving.seating import NO_SEAT
from paluku.serving.session import Session
from paluku.streaming.memory import Update

MEMORY = "the sessions' memory"


class Keeper:
    """Renews leases and pushes memories, for one ingress, `owner`."""

    def __init__(self, snapshots: Snapshots | None, owner: str, timeout_s: float) -> None:
        self._snapshots = snapshots
        self._owner = owner
        self._timeout_s = timeout_s

    async def renew(self, sessions: Iterable[Session]) -> None:
        """Keep every seat, also those whose session is silent.

        A lease that is gone is found out by the next step; so is a replica.
        """
        by_replica: dict[Replica, list[int]] = defaultdict(list)
        for session in sessions:
            if session.seating is not None:
                for replica, lease in zip(session.seating.lane.replicas, session.seating.leases, strict=True):
                    by_replica[replica].append(lease)
        # At once: one that hangs must not let the others' leases expire.
        await asyncio.gather(*[self._renew(replica, leases) for replica, leases in by_replica.items()])

    async def _renew(self, replica: Replica, leases: list[int]) -> None:
        with suppress(*NO_SEAT):
            work = replica.renew(np.array(leases, np.int64))
            await call(f"replica {replica.replica_id}", work, self._timeout_s)

    async def push(self, sessions: Iterable[Session]) -> list[Session]:
        """Copy what is new of the sessions' memories; gives those that another ingress has taken over.

        What cannot be pushed now is pushed next time.
        """
        if self._snapshots is None:
            return []
        updates = {session: session.memory.update(facts(session)) for session in sessions}
        if not updates:
            return []
        by_key = {session.identity.key: session for session in updates}
        try:
            pushed = {session.identity.key: update for session, update in updates.items()}
            answer = await call(MEMORY, self._snapshots.push(self._owner, pushed), self._timeout_s)
        except StageLostError:
            for session, update in updates.items():
                session.memory.retry(update)
            return []
        for key in answer.gaps:
            memory = by_key[key].memory
            memory.retry(memory.snapshot({}))  # all of it, next time
        return [by_key[key] for key in answer.claimed]

    async def claim(self, key: str) -> Update | None:
        """The memory of a session whose ingress is gone; None when it is not known.

        Raises:
            StageLostError: when nobody can tell now.
        """
        if self._snapshots is None:
            return None
        return await call(MEMORY, self._snapshots.claim(self._owner, key), self._timeout_s)

    async def forget(self, session: Session) -> None:
        """A session has ended: its memory goes."""
        if self._snapshots is None:
            return
        with suppress(StageLostError):  # the copy expires
            await call(MEMORY, self._snapshots.forget([session.identity.key]), self._timeout_s)


def facts(session: Session) -> Mapping[str, Any]:
    """What a memory's update says beside frames and turns: enough to seat the session anywhere."""
    seating = session.seating
    return {
        "session_id": session.session_id,
        "conditions": session.conditions.model_dump(),
        "turn_taking": session.turn_taking,
        "codec": seating.card.codec if seating else "",
        "bundle": seating.card.bundle if seating else "",
        "path": list(seating.lane.key) if seating else [],
    }
