"""What is in a corpus as one HTML page: tables, histograms, and samples to see and hear.

The page holds everything itself and forbids its browser the network. All text from data is escaped.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from paluku import audio
from paluku.corpus.report.document import document, facts
from paluku.corpus.report.histogram import Histogram
from paluku.corpus.report.inspect import Rejects, Summary
from paluku.corpus.report.pictures import histogram_svg, spectrogram_png, waveform_svg
from paluku.corpus.report.tables import NONE, Table, breakdowns, measures, overview, rejected

# What is longer is cut: a page is to be opened, and sent to a colleague.
SAMPLE_S = 30.0
CHANNELS = ("agent", "user")  # roles, in the order of a dialogue's channels
FACTS = (
    *("id", "source", "split", "language", "speaker", "gender", "voice", "style", "user_voice", "licence"),
    *("origin", "source_rate_hz", "snr_db", "bandwidth_hz", "loudness_lufs", "gain_db", "silence_share"),
    *("clipped_share", "augmentation"),
)


class Heading(NamedTuple):
    """What a page says of where its numbers come from."""

    folder: str
    hash: str
    config_sha256: str


def page(heading: Heading, summary: Summary, found: Rejects, samples: Sequence[Mapping[str, Any]]) -> str:
    """The page. `samples` are whole rows, sound included.

    Raises:
        AudioError: when a sample's sound cannot be decoded.
    """
    sections = {
        "Rows": f'<div class="grid wide">{"".join(_table(table) for table in breakdowns(summary))}</div>',
        "Measured": _measured(summary),
        "Rejected": _rejected(found),
        "Samples": _samples(samples),
    }
    title = f"{summary.kind} in {heading.folder}"
    subtitle = f"hash {heading.hash}, config {heading.config_sha256[:16]}"
    return document(title, subtitle, facts(overview(summary, found).rows), sections)


def _table(table: Table, long_columns: int = 0) -> str:
    """`long_columns` at the end hold sentences: they may break."""
    first_long = len(table.headings) - long_columns
    head = "".join(
        f'<th scope="col"{_class(i, table.labels, first_long)}>{escape(text)}</th>'
        for i, text in enumerate(table.headings)
    )
    rows = "".join(f"<tr>{_cells(row, table.labels, first_long)}</tr>" for row in table.rows)
    name = escape(table.title)
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><caption>{name}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(row: Sequence[str], labels: int, first_long: int) -> str:
    return "".join(
        f'<th scope="row" class="word">{escape(text)}</th>'
        if i == 0
        else f"<td{_class(i, labels, first_long)}>{escape(text)}</td>"
        for i, text in enumerate(row)
    )


def _class(column: int, labels: int, first_long: int) -> str:
    if column >= first_long:
        return ' class="long"'
    return ' class="word"' if column < labels else ""


def _measured(summary: Summary) -> str:
    charts = "".join(_chart(histogram) for histogram in summary.measures.values() if len(histogram))
    return f'<div class="grid">{charts}</div>{_table(measures(summary))}'


def _chart(histogram: Histogram) -> str:
    scale = histogram.scale
    unit = f", {scale.unit}" if scale.unit else ""
    return (
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(scale.title + unit)}</h3>'
        f'<span class="soft">median {histogram.quantile(0.5):,.4g}, dashed; {len(histogram):,} values</span>'
        f"</figcaption>{histogram_svg(histogram)}</figure>"
    )


def _rejected(found: Rejects) -> str:
    if not found.counts:
        return "<p>Nothing was rejected.</p>"
    return _table(rejected(found), long_columns=2)


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    if not samples:
        return "<p>None were asked for.</p>"
    return f'<div class="grid wide">{"".join(_sample(row) for row in samples)}</div>'


def _sample(row: Mapping[str, Any]) -> str:
    wave, rate_hz = audio.read(row["audio"], f"the sound of {row['id']}")
    seconds = len(wave) / rate_hz
    heard = wave[: round(SAMPLE_S * rate_hz)]
    data = row["audio"] if len(heard) == len(wave) else audio.to_flac(heard, rate_hz)
    length = f"{seconds:.1f} s" + (f", the first {SAMPLE_S:.0f} s here" if len(heard) < len(wave) else "")
    name = f"{row['source']}, {row['split']}"
    spectrum = _base64(spectrogram_png(heard.mean(axis=1), rate_hz))
    return (
        f'<article class="card"><h3>{escape(name)}</h3><p class="soft">{escape(str(row["id"]))}, {length}</p>'
        f"{_waves(row, heard, rate_hz)}"
        f'<img class="spectrum" alt="Spectrogram, 0 to {rate_hz // 2} Hz" '
        f'src="data:image/png;base64,{spectrum}">'
        f'<audio controls preload="metadata" aria-label="{escape(str(row["id"]))}" '
        f'src="data:audio/flac;base64,{_base64(data)}"></audio>{_said(row)}{_facts(row)}</article>'
    )


def _waves(row: Mapping[str, Any], heard: np.ndarray, rate_hz: int) -> str:
    if "turns" not in row:
        return waveform_svg(heard[:, 0], rate_hz)
    seconds, drawn = len(heard) / rate_hz, []
    for channel, role in enumerate(CHANNELS):
        said = [t for t in row["turns"] if t["role"] == role and t["start_s"] < seconds]
        label = "reply" if role == "agent" else role
        drawn.append(
            f'<p class="channel">{label}</p>' + waveform_svg(heard[:, channel], rate_hz, said, label)
        )
    return "".join(drawn)


def _said(row: Mapping[str, Any]) -> str:
    if "turns" not in row:
        language = escape(str(row.get("language") or "und"))
        return f'<p class="text" lang="{language}">{escape(row["text"])}</p>' if row.get("text") else ""
    turns = "".join(
        f'<li><span class="soft">{t["start_s"]:.2f} to {t["end_s"]:.2f} s, {escape(t["role"])}, '
        f"{escape(t['kind'])}</span><br>{escape(t['text'])}</li>"
        for t in row["turns"]
    )
    return f'<ol class="turns">{turns}</ol>'


def _facts(row: Mapping[str, Any]) -> str:
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_value(row[name]))}</dd></div>"
        for name in FACTS[1:]
        if row.get(name) is not None
    )
    return f'<dl class="facts">{facts}</dl>'


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value) or NONE


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
