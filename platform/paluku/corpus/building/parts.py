"""Phase two of a build: a part's utterances, decoded and prepared one at a time, into one file.

A part is a pure function of its plan: whoever makes it, and however often after a crash, the same bytes
appear. What cannot be used is left out and named.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pydantic import Field

from paluku.config import Config
from paluku.corpus.building.listing import PartPlan, read_part
from paluku.corpus.preparation.quality import Reject, UnusableError
from paluku.corpus.shards import SCHEMAS, ShardWriter
from paluku.corpus.storage import Place
from paluku.corpus.utterance import Utterance

PARTS = "parts"
AUDIO_BYTES = "audio_bytes"
# As the shards' but for the split, which takes all parts to know, and the audio's size, which fills shards.
PART_SCHEMA = pa.schema(
    [
        *(field for field in SCHEMAS["utterances"] if field.name != "split"),
        pa.field(AUDIO_BYTES, pa.int64()),
    ]
)
# A shard takes rows out of many parts: it reads no more than this many at once (16 of 30 s are 8 MB).
ROWS_PER_PART_GROUP = 16

# Flags beside a row's columns: segments that lost their transcript, since it belongs to the whole recording,
# and segments that end where no pause could be found.
COUNTED = ("text_dropped", "cut_in_speech")

Prepare = Callable[[Utterance], Iterator[dict[str, Any] | Reject]]


class PartOutcome(Config):
    """What became of a part."""

    number: int
    path: str  # of the rows, below the work folder
    num_bytes: int
    rows: int
    audio_s: float  # of the rows
    counts: dict[str, int] = Field(default_factory=dict)  # rows of which something in COUNTED holds
    rejects: tuple[Reject, ...] = ()


def part_name(plan: PartPlan) -> str:
    """Its file below the work folder, named by the whole plan: no other plan's task can write it."""
    digest = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:16]
    return f"{PARTS}/{plan.number:06d}-{digest}.parquet"


def make_part(plan: PartPlan, work: Place, prepare: Prepare) -> PartOutcome:
    """Prepare every utterance of a part and write the rows; no more than one recording is in memory.

    Raises:
        CorpusError: when the plan's listing is missing.
        StorageError: when the place cannot be written.
    """
    rejects: list[Reject] = []
    counts, samples = Counter[str](), Counter[int]()
    with work.writing(part_name(plan)) as sink:
        writer = ShardWriter(sink, PART_SCHEMA, ROWS_PER_PART_GROUP)
        for utterance in read_part(plan, work):
            for found in prepared(utterance, prepare):
                if isinstance(found, Reject):
                    rejects.append(found)
                    continue
                writer.add(found | {AUDIO_BYTES: len(found["audio"])})
                samples[found["sample_rate_hz"]] += found["num_samples"]
                counts.update(name for name in COUNTED if found.get(name))
        writer.close()
    audio_s = sum(count / rate_hz for rate_hz, count in samples.items())
    return PartOutcome(
        number=plan.number,
        path=part_name(plan),
        num_bytes=sink.num_bytes,
        rows=writer.rows,
        audio_s=audio_s,
        counts=dict(counts),
        rejects=tuple(rejects),
    )


def prepared(utterance: Utterance, prepare: Prepare) -> Iterator[dict[str, Any] | Reject]:
    """The rows and rejects of one utterance; one that cannot be decoded at all is a reject too."""
    try:
        yield from prepare(utterance)
    except UnusableError as error:
        yield Reject(
            id=f"{utterance.source}/{utterance.id}",
            source=utterance.source,
            reason=error.reason,
            detail=error.detail,
            duration_s=utterance.duration_s,
        )
