"""What is in a corpus: tables, and a page with histograms and samples to hear. `FOLDER [--page FILE]`."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table as RichTable

from paluku.corpus.report import page, scan, tables
from paluku.corpus.report.inspect import GROUPED_BY, Rejects, Summary, summarise
from paluku.corpus.shards import Manifest, read_manifest
from paluku.corpus.storage import Place
from paluku.errors import CorpusError, exits_cleanly


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.inspect_corpus", description=__doc__)
    parser.add_argument("folder", help="a folder or URI of utterances or dialogues")
    parser.add_argument("--page", type=Path, help="where to write the page; page.html in a local folder")
    parser.add_argument("--samples", type=int, default=2, help="of each source and split; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="other samples")
    found = parser.parse_args(argv)
    if found.samples < 0:
        parser.error("--samples must be 0 or more")
    return found


@exits_cleanly
def main() -> None:
    """Read once, then print, draw and say it as JSON."""
    asked = arguments()
    place = Place.of(asked.folder)
    manifest = read_manifest(place)
    if manifest.kind not in GROUPED_BY:
        raise CorpusError(f"{place} holds {manifest.kind}; give a folder of utterances or of dialogues")
    if not manifest.rows():
        raise CorpusError(f"{place} has no rows in any split; its rejects.parquet says what was left out")
    sampler = scan.Sampler(asked.samples, asked.seed)
    summary, found = summarise(manifest.kind, looked_at(place, manifest, sampler)), Rejects()
    for rows in scan.rejects(place):
        found.add(rows)
    show(summary, found)
    heading = page.Heading(str(place), manifest.hash, manifest.config_sha256)
    html = page.page(heading, summary, found, scan.fetch(place, sampler.drawn()))
    path = asked.page or (place.local or Path()) / "page.html"
    Place.of(path.parent).write_bytes(path.name, html.encode())
    Console(markup=False, emoji=False).print(f"page: {path} ({len(html.encode()) / 1e6:.1f} MB)")
    numbers: dict[str, Any] = summary.numbers() | {"rejects": found.numbers(), "hash": manifest.hash}
    print(json.dumps(numbers | {"page": str(path)}, ensure_ascii=False))


def looked_at(place: Place, manifest: Manifest, sampler: scan.Sampler) -> Iterator[pa.Table]:
    """All rows without sound, each offered to the sampler as it goes by."""
    for batch in scan.scan(place, manifest):
        sampler.offer(batch)
        yield batch.rows


def show(summary: Summary, found: Rejects) -> None:
    """For people."""
    console = Console(markup=False, emoji=False)  # names come from data: `[/te] clips` is no markup
    listed = [tables.overview(summary, found), *tables.breakdowns(summary), tables.measures(summary)]
    for table in [*listed, *([tables.rejected(found)] if found.counts else [])]:
        rich = RichTable(title=table.title, title_justify="left", show_header=any(table.headings))
        for column, heading in enumerate(table.headings):
            words = column < table.labels or table.title == "Rejected"
            rich.add_column(heading, justify="left" if words else "right", overflow="fold")
        for row in table.rows:
            rich.add_row(*row)
        console.print(rich)


if __name__ == "__main__":
    main()
