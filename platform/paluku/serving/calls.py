"""Calls to replicas: other processes behind a port, which can fail in any way."""

import asyncio
import contextvars
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from paluku.errors import SeatsExhausted
from paluku.log import logger
from paluku.serving.ports import LeaseGoneError, StageLostError

log = logger(__name__)

Result = TypeVar("Result")


class SlowError(StageLostError):
    """It may be busy with others: not all that sits there is lost."""


async def call(name: str, work: Awaitable[Result], timeout_s: float) -> Result:
    """Await what `name`, a replica or another process, was asked for.

    Raises:
        SeatsExhausted, LeaseGoneError: what it said.
        StageLostError: for everything else it raised, and when it took too long.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except (SeatsExhausted, LeaseGoneError, StageLostError):
        raise
    except TimeoutError as error:
        log.warning("%s took more than %g s", name, timeout_s)
        raise SlowError(f"a stage took more than {timeout_s:g} s; connect again") from error
    # Ray, gRPC and the model can raise anything, and the clock has to outlive it. Nothing is swallowed.
    except Exception as error:
        log.warning("%s is lost (%s)", name, type(error).__name__)
        raise StageLostError(f"a stage is lost ({type(error).__name__}); connect again") from error


def alone(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """Run in a task with an empty context.

    Calls of Serve handles that share a request's context share its internal id, and one of two
    concurrent ones never returns.
    """
    task = asyncio.create_task(work, context=contextvars.Context())
    # The loop itself holds its tasks only weakly.
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


_running: set["asyncio.Task[Any]"] = set()
