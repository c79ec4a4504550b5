"""Tasks without Ray: one after the other in this process, in any order, killed when told."""

from collections.abc import Callable, Sequence
from typing import Any

from paluku.cluster.shard_tasks import outcome_name, remembered
from paluku.corpus.storage import Place


class Stopped(Exception):  # noqa: N818 (nothing is wrong)
    """The process was killed."""


class InOrder:
    """`run_resumably` in one process: it may begin at the end, and may be killed after some tasks."""

    def __init__(self, *, backwards: bool = False, killed_after: int | None = None) -> None:
        self._backwards, self._left = backwards, killed_after
        self.made: list[str] = []

    def __call__(
        self,
        plans: Sequence[str],
        make: Callable[[str], str],
        work: str,
        label: str,
        *,
        holds: Callable[[str], bool] | None = None,
        **_: Any,
    ) -> list[str]:
        known = remembered(plans, work, holds)
        left = [order for order in range(len(plans)) if order not in known]
        for order in reversed(left) if self._backwards else left:
            if len(self.made) == self._left:
                raise Stopped
            known[order] = make(plans[order])
            Place.of(work).write_bytes(outcome_name(plans[order]), known[order].encode())
            self.made.append(label)
        return [known[order] for order in range(len(plans))]
