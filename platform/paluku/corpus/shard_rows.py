"""A shard's rows as a task is told of them: what is made shard by shard out of a finished corpus."""

from paluku.config import Config
from paluku.corpus.shards import SPLITS, Manifest, Split


class Rows(Config):
    """The rows of one shard."""

    corpus: str  # folder or URI
    corpus_hash: str
    split: Split
    number: int
    first: int  # in the split
    rows: int


def sources(corpus: str, manifest: Manifest) -> list[Rows]:
    """One for each shard of a corpus that has rows, split after split."""
    listed: list[Rows] = []
    first: dict[Split, int] = {}
    number: dict[Split, int] = {}
    for shard in sorted((s for s in manifest.shards if s.rows), key=lambda shard: SPLITS.index(shard.split)):
        split = shard.split
        rows = Rows(
            corpus=corpus,
            corpus_hash=manifest.hash,
            split=split,
            number=number.get(split, 0),
            first=first.get(split, 0),
            rows=shard.rows,
        )
        listed.append(rows)
        first[split], number[split] = rows.first + shard.rows, rows.number + 1
    return listed
