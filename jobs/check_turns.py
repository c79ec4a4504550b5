"""Check files of Telugu turns after a correction: `[FILE or FOLDER ...]`; without any, the shipped ones."""

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from paluku.corpus.turn_rules import Count, added, count_by_topic, faults
from paluku.corpus.turns import Sheet, read_intents, read_sheet, sheet_paths, shipped_turns
from paluku.errors import CorpusError, exits_cleanly


@exits_cleanly
def main() -> None:
    """Name every fault on stderr (exit code 2), or show what there is of each topic."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE", help="TSV file, or a folder of them")
    paths = sheet_paths(parser.parse_args().paths or [shipped_turns()])
    sheets = [read_sheet(path) for path in paths]
    check(sheets)
    counts = count_by_topic(read_intents(paths))
    total = functools.reduce(added, counts.values())
    show(counts | {"all": total})
    reviewed = sum(row.reviewed != "no" for sheet in sheets for row in sheet.rows)
    topics = {topic: count._asdict() for topic, count in counts.items()}
    print(json.dumps(total._asdict() | {"reviewed_rows": reviewed, "topics": topics}))


def check(sheets: Sequence[Sheet]) -> None:
    """Raises `CorpusError` after every fault was printed."""
    found = faults(sheets)
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        raise CorpusError(f"{len(found)} faults in the turns, named above; mend them and check again")


def show(counts: dict[str, Count]) -> None:
    """A table for a person."""
    table = Table("topic", *(name.replace("_", " ") for name in Count._fields))
    for topic, count in counts.items():
        table.add_row(topic, *map(str, count))
    Console().print(table)


if __name__ == "__main__":
    main()
