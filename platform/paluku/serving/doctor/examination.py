"""All checks, in the order in which one is the reason of the next, and their table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from paluku.serving.doctor import frame, machine, models, ports, server, tools, versions
from paluku.serving.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


def examined(root: Path, bundle: str, url: str | None, key: str | None) -> Iterator[Finding]:
    """`root` is the checkout; with `url`, the server there too.

    Raises:
        ConfigError: when `root` holds no constraints, or `url` or `key` is none.
    """
    if url is not None:
        # Said before the minute that the rest takes.
        server.address(url)
        server.sayable(key)
    yield from machine.check(machine.facts(root))
    yield from versions.check(root / "constraints.txt")
    yield from ports.check()
    yield from tools.check()
    yield from models.check()
    yield from frame.check(bundle)
    if url is not None:
        yield from server.check(url, key)


def show(findings: Sequence[Finding], console: Console | None = None) -> None:
    """The table, and below it what to do."""
    table = Table("check", "", "found", box=None, pad_edge=False)
    for finding in findings:
        colour = COLOURS[finding.verdict]
        table.add_row(finding.check, f"[{colour}]{finding.verdict}[/]", escape(finding.found))
    console = console or Console()
    console.print(table)
    for finding in findings:
        if finding.todo:
            colour = COLOURS[finding.verdict]
            console.print(f"[{colour}]{finding.verdict}[/] {finding.check}: {escape(finding.todo)}")
