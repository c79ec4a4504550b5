"""What a data job has made, as a table for a terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from paluku.corpus.shards import SPLITS, Manifest


def show_manifests(manifests: Mapping[str, Manifest]) -> None:
    """One line a split: rows, shards and minutes; rejects below."""
    table = Table(title="corpus")
    for heading in ("kind", "split", "rows", "shards", "minutes"):
        table.add_column(heading, justify="left" if heading in ("kind", "split") else "right")
    for kind, manifest in manifests.items():
        for split in SPLITS:
            shards = sum(shard.split == split for shard in manifest.shards)
            minutes = f"{60 * manifest.hours.get(split, 0.0):.1f}"
            table.add_row(kind, split, str(manifest.rows(split)), str(shards), minutes)
    console = Console()
    console.print(table)
    for kind, manifest in manifests.items():
        for reason, count in manifest.rejects.items():
            console.print(f"{kind}: {count} rejected as {reason}; see rejects.parquet")
