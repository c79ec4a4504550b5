"""Which bundle new sessions are seated on: the newest that every replica holds."""

import asyncio
from collections.abc import Sequence

from paluku.serving.calls import alone, call
from paluku.serving.ports import Fleet, LaneCard


class Bundles:
    """The cards of the bundles that the stages hold, by digest."""

    def __init__(self, fleets: Sequence[Fleet], timeout_s: float) -> None:
        self._fleets = fleets
        self._timeout_s = timeout_s
        self._cards: dict[str, LaneCard] = {}
        self._newest: LaneCard | None = None

    @property
    def newest(self) -> LaneCard:
        """What new sessions are seated on."""
        assert self._newest is not None, "no bundle was found yet"
        return self._newest

    def card(self, bundle: str) -> LaneCard | None:
        """Of a bundle that was once the newest."""
        return self._cards.get(bundle)

    async def find(self) -> bool:
        """Look for the newest that every replica that stays holds; whether any was ever found.

        Raises:
            StageLostError, LeaseGoneError: when a replica went while it was asked.
            ServiceError: when the stages do not belong together.
        """
        digest = self._common()
        if digest is not None and digest not in self._cards:
            self._cards[digest] = await self._ask(digest)
        if digest is not None:
            self._newest = self._cards[digest]
        return self._newest is not None

    async def _ask(self, digest: str) -> LaneCard:
        replicas = [
            next(m.replica for m in fleet.members if not m.is_leaving and digest in m.status.bundles)
            for fleet in self._fleets
        ]
        asked = [alone(call(f"replica {r.replica_id}", r.card(digest), self._timeout_s)) for r in replicas]
        return LaneCard.of(await asyncio.gather(*asked))

    def _common(self) -> str | None:
        held = [[m.status.bundles for m in fleet.members if not m.is_leaving] for fleet in self._fleets]
        if not all(held):
            return None
        every = [bundles for stage in held for bundles in stage]
        common = set(every[0]).intersection(*every[1:])
        # Replicas load at their own pace: the order of the one that has it last is the order of all.
        return next((bundle for bundle in reversed(every[0]) if bundle in common), None)
