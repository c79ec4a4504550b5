"""What `evaluate_s2s` tells people: a table on the terminal, a run in MLflow."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from paluku.evals.s2s_report import NONE, NUMBERS, About
from paluku.evals.s2s_results import REPORT, metrics
from paluku.evals.s2s_run import Evaluation, Findings
from paluku.registry.tracking import Data, log_finished


def shown(about: About, findings: Findings, out: Path) -> None:
    """The numbers, and where the rest lies."""
    console = Console(markup=False, emoji=False)  # names come from data: they are no markup
    table = Table(title=f"The S2S model {about.bundle}", title_justify="left")
    for title in ("", "the model", "recorded replies", "asked"):
        table.add_column(title, justify="right" if title else "left")
    for key, title, form, bound, at_least in NUMBERS:
        values = (findings.numbers.get(key), findings.reference_numbers.get(key))
        cells = [NONE if value is None else form.format(value) for value in values]
        wanted = "" if bound is None else f"{'≥' if at_least else '<'} {form.format(bound)}"
        table.add_row(title, *cells, wanted)
    console.print(table)
    console.print(f"page: {out / REPORT}")


def logged(
    tracking_uri: str,
    experiment: str,
    asked: Evaluation,
    about: About,
    findings: Findings,
    written: Sequence[Path],
) -> None:
    """A run with params, metrics, the report and the sound (`tracking.log_finished`)."""
    data = Data("dialogues", about.data_hash, Path(asked.dialogues))
    tags = {f"{part}_hash": digest for part, digest in about.hashes.items()} | {"command": about.command}
    log_finished(tracking_uri, experiment, asked, data, about.bundle, tags, metrics(findings), written)
