"""What a build left out: its table, and when there is too much of it."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa

from paluku.corpus.preparation.quality import Reject
from paluku.corpus.shards import write_table
from paluku.corpus.storage import Place
from paluku.errors import CorpusError

REJECTS = "rejects.parquet"
REJECT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("duration_s", pa.float32()),
    ]
)


def write_rejects(out: Place, rejects: Iterable[Reject]) -> None:
    """Leave them beside the shards, with their reasons.

    Raises:
        StorageError: when the place cannot be written.
    """
    rows = [reject.model_dump() for reject in rejects]
    write_table(out, REJECTS, pa.Table.from_pylist(rows, schema=REJECT_SCHEMA))


def refuse_too_many(rejects: Sequence[Reject], items: int, what: str, max_share: float, advice: str) -> None:
    """Stop a build that keeps nothing, or too little; what was made stays, and the build goes on from there.

    `items` are all that were looked at, `what` they are, and `advice` what to do, with `{first}` for the
    first reject.

    Raises:
        CorpusError: when nothing was kept, or more than `max_share` was not; the reasons are counted.
    """
    if len(rejects) < items and len(rejects) <= max_share * items:
        return
    counts = ", ".join(
        f"{count} {reason}" for reason, count in Counter(r.reason for r in rejects).most_common()
    )
    first = f"{rejects[0].id} ({rejects[0].detail})" if rejects else "none"
    raise CorpusError(
        f"{len(rejects)} of {items} {what} were rejected: {counts}; max_reject_share allows "
        f"{max_share:.0%}. {advice.format(first=first)}"
    )
