"""What was judged of a codec as one HTML page: tables, curves, and clips before and after to see and hear.

The page holds everything itself and forbids its browser the network. All text from data is escaped.
"""

import base64
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np

from paluku import audio
from paluku.corpus.report.document import document, facts
from paluku.corpus.report.page_style import CSS
from paluku.corpus.report.pictures import spectrogram_png, waveform_svg
from paluku.evals.clips import Chosen, Clip, Ignored
from paluku.evals.codec import RATE_HZ, Judgement, key_of
from paluku.evals.codec_pictures import Axis, Point, codebooks_svg, curves_svg

NONE = "-"
ORIGINAL = "original"
MOST_IGNORED = 100
# What is longer is cut: the page is to be opened, and sent to a colleague. The samples' folder has it all.
SAMPLE_S = 8.0
CURVES = (
    ("pesq", Axis("PESQ, wide band", 1.0, 4.64)),
    ("stoi", Axis("STOI", 0.5, 1.0)),
    ("visqol", Axis("ViSQOL, speech", 1.0, 5.0)),
    ("si_sdr_db", Axis("SI-SDR, dB", -10.0, 20.0)),
)
STYLE = (
    CSS
    + """
td.best { font-weight: 700; color: var(--mark); } tr.own th { color: var(--mark); }
.use { fill: var(--bar); } .spread { fill: var(--other); }
.own circle { fill: var(--mark); } .own polyline { stroke: var(--mark); fill: none; stroke-width: 2; }
.rival circle { fill: var(--other); } .rival polyline { stroke: var(--other); fill: none; }
.own text { fill: var(--mark); font-weight: 700; }
:not(pre, p, li, td) > code, pre {
  display: block; white-space: pre-wrap; font-size: .9rem; background: var(--card); padding: .6rem;
}
pre > code { display: inline; }
.takes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .8rem; }
"""
)

# As `rows.Row` dumps itself: what a table is made of is asked for by name.
Row = Mapping[str, Any]


class Column(NamedTuple):
    """A number of a row: its heading, how it is written, and which way is better (0: neither)."""

    key: str
    heading: str
    form: str
    better: int = 0


COLUMNS = (
    Column("kbps", "kbps", "{:.2f}"),
    Column("clips", "clips", "{:,.0f}"),
    Column("pesq", "PESQ", "{:.2f}", 1),
    Column("stoi", "STOI", "{:.3f}", 1),
    Column("visqol", "ViSQOL", "{:.2f}", 1),
    Column("si_sdr_db", "SI-SDR dB", "{:.1f}", 1),
    Column("mel_distance", "mel distance", "{:.3f}", -1),
    Column("speaker_cosine", "speaker cosine", "{:.3f}", 1),
    Column("cer_romanised", "character error", "{:.3f}", -1),
    Column("cer_original", "of the original", "{:.3f}"),
    Column("cer_to_original", "to the original", "{:.3f}", -1),
    Column("compression_ratio", "compression", "{:.0f}x"),
    Column("rtf_encode", "encode RTF", "{:.4f}", -1),
    Column("rtf_decode", "decode RTF", "{:.4f}", -1),
    Column("rtf_encode_batch", "encode RTF of 16", "{:.4f}", -1),
    Column("rtf_decode_batch", "decode RTF of 16", "{:.4f}", -1),
)


@dataclass(frozen=True)
class About:
    """Where the numbers come from; `facts` and `notes` are shown as they are."""

    codec: str
    hash: str
    licence: str
    data: str
    command: str
    codebook_size: int
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()  # said once: baselines that are absent, judges that are not here


class Sample(NamedTuple):
    """A clip, and what each codec made of it: waves float32 `[S]` at `rate_hz`, by codec and kbps."""

    clip: Clip
    takes: Mapping[str, np.ndarray]
    rate_hz: int


@dataclass(frozen=True)
class Findings:
    """What is shown. A row has `name`, `language`, numbers, and of `speakers` a `speaker` too."""

    rows: Sequence[Row]
    speakers: Sequence[Row] = ()
    samples: Sequence[Sample] = ()
    ignored: Sequence[Ignored] = ()

    @classmethod
    def of(cls, judgement: Judgement, chosen: Chosen) -> "Findings":
        """All of a judgement; each clip that was kept begins with its original."""
        return cls(
            [row.model_dump() for row in judgement.rows],
            [row.model_dump() for row in judgement.speakers],
            [_heard(clip, judgement) for clip in chosen.clips if key_of(clip) in judgement.waves],
            [*chosen.ignored, *judgement.ignored],
        )


def _heard(clip: Clip, judgement: Judgement) -> Sample:
    original = audio.resample(clip.wave, clip.rate_hz, RATE_HZ).astype(np.float32)
    return Sample(clip, {ORIGINAL: original, **judgement.waves[key_of(clip)]}, RATE_HZ)


def page(about: About, chosen: Chosen, findings: Findings) -> str:
    """The page."""
    sections = {
        "Languages": _languages(about.codec, findings.rows),
        "Curves": _curves(about.codec, findings.rows),
        "Codebooks": _codebooks(about, findings.rows),
        "Speakers": _speakers(about.codec, findings.speakers),
        "Listen": _samples(findings.samples),
        "Material": _material(about, chosen, findings.ignored),
        "Command": f"<code>{escape(about.command)}</code>",
    }
    title = f"The codec {about.codec} on {about.data}"
    subtitle = f"codec {about.hash}, licence: {about.licence}; data {chosen.data_hash}"
    return document(title, subtitle, _tiles(about, chosen), sections, STYLE)


def is_best(row: Row, rows: Iterable[Row], column: Column) -> bool:
    """Whether no row of these is better at as few bits (for speeds: at any)."""
    value = _number(row, column.key)
    if value is None or not column.better:
        return False
    is_speed = column.key.startswith("rtf_")
    rivals = [r for r in rows if is_speed or r["kbps"] <= row["kbps"] + 1e-9]
    values = [v for r in rivals if (v := _number(r, column.key)) is not None]
    return column.better * value >= max(column.better * v for v in values)


def _tiles(about: About, chosen: Chosen) -> str:
    tiles = {
        "clips": f"{len(chosen.clips)} of {chosen.offered:,}",
        "sound": f"{chosen.seconds / 60:.1f} min",
        "speakers": str(len({(clip.source, clip.speaker) for clip in chosen.clips})),
        **about.facts,
    }
    return facts(tiles.items())


def _languages(codec: str, rows: Sequence[Row]) -> str:
    tables = "".join(
        _table(language, codec, of_one, _name) for language, of_one in _by(rows, "language").items()
    )
    return (
        '<p class="soft">In bold: no other row of the language is better with as few bits (of the speeds: at '
        "all). RTF is processor time of a core over the length of the sound, streaming; of 16: a share of a "
        "batch. Encoding makes all codebooks the codec was opened with, whatever is sent of them. In "
        "brackets: of how many clips a mean is, where its judge had no number for the others. Character "
        "errors are of romanised Telugu, by what a recogniser heard.</p>" + tables
    )


def _speakers(codec: str, rows: Sequence[Row]) -> str:
    own = [row for row in rows if row["name"] == codec]
    if not own:
        return "<p>Nothing is known of single speakers.</p>"
    groups = {
        f"{language}, {kbps:.2f} kbps": of_kbps
        for language, of_one in _by(own, "language").items()
        for kbps, of_kbps in _by(of_one, "kbps").items()
    }
    return "".join(_table(title, "", of_one, lambda row: row["speaker"]) for title, of_one in groups.items())


def _table(caption: str, own: str, rows: Sequence[Row], label: Callable[[Row], str]) -> str:
    columns = [c for c in COLUMNS if any(_number(row, c.key) is not None for row in rows)]
    head = "".join(f'<th scope="col">{escape(c.heading)}</th>' for c in columns)
    body = "".join(
        f"<tr{_class('own' if row['name'] == own else '')}>"
        f'<th scope="row" class="word">{escape(label(row))}</th>'
        f"{''.join(_cell(row, c, is_marked=bool(own) and is_best(row, rows, c)) for c in columns)}</tr>"
        for row in rows
    )
    name = escape(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><caption>{name}</caption>'
        f'<thead><tr><th scope="col" class="word"></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(row: Row, column: Column, *, is_marked: bool) -> str:
    value = _number(row, column.key)
    text = NONE if value is None else column.form.format(value)
    if (
        value is not None
        and (judged := (row.get("judged") or {}).get(column.key, row["clips"])) < row["clips"]
    ):
        text += f" ({judged:,})"
    return f"<td{_class('best' if is_marked else '')}>{escape(text)}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _name(row: Row) -> str:
    return str(row["name"])


def _number(row: Row, key: str) -> float | None:
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _by(rows: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _curves(codec: str, rows: Sequence[Row]) -> str:
    charts = "".join(
        _chart(f"{language}: {axis.title}", axis, curves, codec)
        for language, of_one in _by(rows, "language").items()
        for key, axis in CURVES
        if (curves := _points(of_one, key))
    )
    return f'<div class="grid">{charts}</div>' if charts else "<p>No judge gave a number.</p>"


def _points(rows: Sequence[Row], key: str) -> dict[str, list[Point]]:
    points: dict[str, list[Point]] = {}
    for row in rows:
        if (value := _number(row, key)) is not None:
            points.setdefault(row["name"], []).append(Point(row["kbps"], value))
    return points


def _chart(title: str, axis: Axis, curves: Mapping[str, Sequence[Point]], own: str) -> str:
    return (
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(title)}</h3>'
        f'<span class="soft">against kbps</span></figcaption>{curves_svg(axis, curves, own)}</figure>'
    )


def _codebooks(about: About, rows: Sequence[Row]) -> str:
    own = [row for row in rows if row["name"] == about.codec and row.get("share_used")]
    if not own:
        return "<p>Nothing is known of the codebooks.</p>"
    full = max(row["kbps"] for row in own)  # at which all that were judged are counted
    cards = "".join(
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(row["language"])}</h3>'
        f'<span class="soft">at least {min(row["share_used"]):.0%} of the entries used, perplexity at least '
        f"{min(row['perplexity']):.0f} of {about.codebook_size}{_in_speech(row)}</span></figcaption>"
        f"{codebooks_svg(row['share_used'], row['perplexity'], about.codebook_size)}</figure>"
        for row in own
        if row["kbps"] == full
    )
    return (
        '<p class="soft">From the first codebook to the last: entries used, and perplexity over their '
        "number. Dashed: what is asked of each, 90 % and 50 %. Few clips cannot use many entries, and pauses "
        "take few of them: in speech are the frames whose original is above -45 dB full scale.</p>"
        f'<div class="grid">{cards}</div>'
    )


def _in_speech(row: Row) -> str:
    spread = row.get("perplexity_speech")
    return f", in speech {min(spread):.0f}" if spread else ""


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return "<p>None were kept.</p>"
    return "".join(_sample(sample) for sample in samples)


def _sample(sample: Sample) -> str:
    clip = sample.clip
    said = f'<p class="text" lang="{escape(clip.language)}">{escape(clip.text)}</p>' if clip.text else ""
    takes = "".join(_take(name, wave, sample) for name, wave in sample.takes.items())
    length = f"{clip.seconds:.1f} s" + (f", {SAMPLE_S:g} s here" if clip.seconds > SAMPLE_S else "")
    about = ", ".join((clip.language, clip.speaker, clip.licence, length))
    return (
        f'<article><h3>{escape(clip.id)}</h3><p class="soft">{escape(about)}</p>{said}'
        f'<div class="takes">{takes}</div></article>'
    )


def _take(name: str, wave: np.ndarray, sample: Sample) -> str:
    rate_hz = sample.rate_hz
    heard = wave[: round(SAMPLE_S * rate_hz)]
    flac, spectrum = _base64(audio.to_flac(heard, rate_hz)), _base64(spectrogram_png(heard, rate_hz))
    label = escape(f"{name}, {sample.clip.id}")
    return (
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(name)}</h3></figcaption>'
        f"{waveform_svg(heard, rate_hz, name=name)}"
        f'<img class="spectrum" alt="Spectrogram of {label}, 0 to {rate_hz // 2} Hz" '
        f'src="data:image/png;base64,{spectrum}">'
        f'<audio controls preload="none" aria-label="{label}" src="data:audio/flac;base64,{flac}"></audio>'
        "</figure>"
    )


def _material(about: About, chosen: Chosen, ignored: Sequence[Ignored]) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in about.notes)
    counts = Counter((clip.language, f"{clip.source} ({clip.licence})") for clip in chosen.clips)
    used = "".join(
        f"<li>{escape(f'{language}: {count} clips of {source}')}</li>"
        for (language, source), count in sorted(counts.items())
    )
    return f"<ul>{used}{notes}</ul>{_ignored(ignored)}"


def _ignored(ignored: Sequence[Ignored]) -> str:
    if not ignored:
        return "<p>Nothing was left out.</p>"
    rows = "".join(
        f'<tr><th scope="row" class="word">{escape(each.id)}</th><td class="word">{escape(each.reason)}</td>'
        f'<td class="long">{escape(each.detail)}</td></tr>'
        for each in ignored[:MOST_IGNORED]
    )
    more = len(ignored) - MOST_IGNORED
    rest = f"<p>and {more:,} more, in the numbers' file</p>" if more > 0 else ""
    return (
        '<div class="scroll" role="region" aria-label="Left out" tabindex="0"><table><caption>Left out'
        f"</caption><tbody>{rows}</tbody></table></div>{rest}"
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
