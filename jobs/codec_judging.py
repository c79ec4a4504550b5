"""What `evaluate_codec` tells people: a table on the terminal, a run in MLflow."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from paluku.evals.codec_report import COLUMNS, NONE, About, Findings, Row
from paluku.evals.codec_results import REPORT, SAMPLES, metrics
from paluku.evals.codec_run import Prepared
from paluku.registry.tracking import Data, log_finished
from paluku.training.pictures import spectrograms


def shown(codec: str, rows: Sequence[Row], out: Path) -> None:
    """The rows, and where the rest lies."""
    console = Console(markup=False, emoji=False)  # names come from data: they are no markup
    columns = [column for column in COLUMNS if any(row.get(column.key) is not None for row in rows)]
    table = Table(title=f"The codec {codec}", title_justify="left")
    table.add_column("")
    table.add_column("language")
    for column in columns:
        table.add_column(column.heading, justify="right", overflow="fold")
    for row in rows:
        values = [(column, row.get(column.key)) for column in columns]
        cells = [NONE if value is None else column.form.format(value) for column, value in values]
        table.add_row(str(row["name"]), str(row["language"]), *cells)
    console.print(table)
    console.print(f"page: {out / REPORT}")


def logged(
    tracking_uri: str,
    experiment: str,
    prepared: Prepared,
    about: About,
    findings: Findings,
    written: Sequence[Path],
) -> None:
    """A run with params, metrics, the report, the sound and its spectrograms (`tracking.log_finished`)."""
    out = written[0].parent
    data = Data("recordings", prepared.chosen.data_hash, Path(prepared.asked.data))
    tags = {"codec_hash": about.hash, "licence": about.licence, "command": about.command}
    log_finished(
        tracking_uri,
        experiment,
        prepared.asked,
        data,
        f"{about.codec} {about.hash}",
        tags,
        metrics(about.codec, findings.rows),
        [*written, *_pictures(out, findings)],
    )


def _pictures(out: Path, findings: Findings) -> list[Path]:
    """Spectrograms before and after, a file a clip; the report has its own."""
    paths = [out / SAMPLES / f"{number:02d}_spectrograms.png" for number in range(len(findings.samples))]
    for path, sample in zip(paths, findings.samples, strict=True):
        spectrograms(path, sample.takes, sample.rate_hz)
    return paths
