"""Ray Data over plans of shards: text in, text out, in order, and errors that keep their class.

A row is one plan; making it writes a shard and gives an outcome. Both are JSON, because Ray Data's
rows are Arrow's and a plan is a tree.
"""

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import ray.data

from paluku.errors import PalukuError


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
    done: dict[int, str] = {}
    for row in dataset.iter_rows():
        if row["error"]:
            raise pickle.loads(row["error"])  # noqa: S301 (written by `carried`, in our own worker)
        done[row["order"]] = row["outcome"]
    return [done[order] for order in sorted(done)]
