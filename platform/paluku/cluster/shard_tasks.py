"""Ray Data over plans: text in, text out, in order, remembered, and errors that keep their class.

A row is one plan; making it writes a file and gives an outcome. Both are JSON, because Ray Data's rows
are Arrow's and a plan is a tree. Nothing but plans and outcomes travels between processes, and Ray Data
starts no more tasks than there are CPUs, so memory is what one task needs times their number.
"""

import functools
import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import ray.data

from paluku.cluster.progress import Measure, Progress
from paluku.corpus.storage import Place
from paluku.errors import PalukuError

OUTCOME = ".outcome"


def plans_dataset(plans: Sequence[str]) -> ray.data.Dataset:
    """One row and one block a plan, so that each is a task of its own."""
    rows = [{"order": order, "plan": plan} for order, plan in enumerate(plans)]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def carried(make: Callable[[str], str], row: dict[str, Any]) -> dict[str, Any]:
    """Make a row's plan, to be given to `Dataset.map`; a `PalukuError` becomes part of the result.

    Raised, it would reach the driver as Ray Data's `UserCodeException` with nothing but a traceback's text.
    """
    try:
        return {"order": row["order"], "outcome": make(row["plan"]), "error": b""}
    except PalukuError as error:
        return {"order": row["order"], "outcome": "", "error": pickle.dumps(error)}


def outcomes(dataset: ray.data.Dataset) -> list[str]:
    """Run, and give the outcomes in the order of the plans.

    Raises:
        PalukuError: the first that a plan met; what is still running is stopped.
    """
    done = dict(_finished(dataset))
    return [done[order] for order in sorted(done)]


class Running(Protocol):
    """`run_resumably`, or something that does the same."""

    def __call__(
        self,
        plans: Sequence[str],
        make: Callable[[str], str],
        work: str,
        label: str,
        *,
        cpus_per_task: float = 1.0,
        measure: Callable[[str], Measure] | None = None,
        holds: Callable[[str], bool] | None = None,
    ) -> list[str]:
        """Outcomes in the order of the plans."""
        ...


def run_resumably(
    plans: Sequence[str],
    make: Callable[[str], str],
    work: str,
    label: str,
    *,
    cpus_per_task: float = 1.0,
    measure: Callable[[str], Measure] | None = None,
    holds: Callable[[str], bool] | None = None,
) -> list[str]:
    """Make every plan and give the outcomes in the plans' order; what was made before is not made again.

    A finished plan is a file in the folder (or URI) `work`, named by the sha256 of its text and written
    by the task itself, so neither a killed worker nor a killed driver forgets it. `make` must be a pure
    function of the plan, picklable, and importable by the workers. `measure` reads an outcome for the
    progress line (hours of audio, rejects); `holds` says whether the file that a remembered outcome tells of
    is still there, else the plan is made again.

    Raises:
        PalukuError: the first that a plan met, in its own class; what is still running is stopped.
    """
    place = Place.of(work)
    known = remembered(plans, place, holds)
    left = [order for order in range(len(plans)) if order not in known]
    with Progress(label, len(plans), measure) as progress:
        for outcome in known.values():
            progress.advance(outcome, was_known=True)
        for position, outcome in _made([plans[order] for order in left], make, place, cpus_per_task):
            known[left[position]] = outcome
            progress.advance(outcome)
    return [known[order] for order in range(len(plans))]


def remembered(
    plans: Sequence[str], work: str | Place, holds: Callable[[str], bool] | None = None
) -> dict[int, str]:
    """Outcomes in `work` of these plans, by their position; with `holds` those for which it says yes.

    Raises:
        StorageError: when the place cannot be read.
    """
    place = Place.of(work)
    there = set(place.list(suffix=OUTCOME))
    names = ((order, outcome_name(plan)) for order, plan in enumerate(plans))
    found = {order: place.read_bytes(name).decode() for order, name in names if name in there}
    return {order: outcome for order, outcome in found.items() if holds is None or holds(outcome)}


def outcome_name(plan: str) -> str:
    """The file that remembers a plan."""
    return hashlib.sha256(plan.encode()).hexdigest() + OUTCOME


def _made(
    plans: Sequence[str], make: Callable[[str], str], work: Place, cpus_per_task: float
) -> Iterator[tuple[int, str]]:
    if not plans:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours knows hours and rejects, theirs rows and blocks
    context.print_on_execution_start = False
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that theirs are off
    remember = functools.partial(_make_and_remember, make, work.where)
    dataset = plans_dataset(plans).map(functools.partial(carried, remember), num_cpus=cpus_per_task)
    yield from _finished(dataset)


def _make_and_remember(make: Callable[[str], str], work: str, plan: str) -> str:
    outcome = make(plan)
    Place.of(work).write_bytes(outcome_name(plan), outcome.encode())
    return outcome


def _finished(dataset: ray.data.Dataset) -> Iterator[tuple[int, str]]:
    """Order and outcome of each plan as it is done."""
    for row in dataset.iter_rows():
        if row["error"]:
            raise pickle.loads(row["error"])  # noqa: S301 (written by `carried`, in our own worker)
        yield row["order"], row["outcome"]
