"""Ray wraps what a task raises, sometimes several times over; the user should see the error itself.

For tasks, actors and Ray Train. Ray Data drops the cause on its way: see `cluster.shard_tasks`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayTaskError

from paluku.errors import PalukuError


@contextmanager
def user_errors() -> Iterator[None]:
    """Re-raise the `PalukuError` inside an exception of Ray's; anything else passes unchanged.

    Raises:
        PalukuError: the one that a task, an actor or a training worker raised.
    """
    try:
        yield
    # Ray Core, Data and Train share no base class below Exception; what holds no error of ours is re-raised.
    except Exception as error:
        inner = find_user_error(error)
        if inner is None or inner is error:
            raise
        raise inner from None


def find_user_error(error: BaseException) -> PalukuError | None:
    """The first `PalukuError` along an exception's causes that is not one of Ray's wrappers, or none."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        # Ray's wrapper is at once a RayTaskError and of the cause's own class; its text is a traceback.
        if isinstance(current, PalukuError) and not isinstance(current, RayTaskError):
            return current
        pending.extend(_causes(current))
    return None


def _causes(error: BaseException) -> list[object]:
    """What Python, a Ray task (`cause`) and Ray Train (the two failures) point back to."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", None) or {}
    return [
        getattr(error, "cause", None),
        getattr(error, "controller_failure", None),
        *failures.values(),
        error.__cause__,
        error.__context__,
    ]
