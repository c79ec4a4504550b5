"""A model's validation as one HTML page: what it is, how it measures beside others, how it sounds, limits.

The page holds everything itself and forbids its browser the network. All text from data is escaped.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape

from paluku import audio
from paluku.corpus.report.document import document, facts
from paluku.corpus.report.pictures import histogram_svg, waveform_svg
from paluku.evals import codec_report
from paluku.evals.codec_report import COLUMNS, Column
from paluku.evals.gates import Number, Verdict
from paluku.evals.s2s_report import NUMBERS
from paluku.evals.validation import Heard, Take, Validation

NONE = "-"
# Of a codec's columns, those that a reader of this page compares; its own report has all.
SHOWN = ("kbps", "clips", "pesq", "stoi", "visqol", "si_sdr_db", "speaker_cosine", "compression_ratio")
SHOWN += ("cer_romanised", "rtf_encode", "rtf_decode")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
STYLE = (
    codec_report.STYLE
    + """
td.met { color: var(--mark); font-weight: 700; } td.missed { color: var(--other); font-weight: 700; }
.verdict { font-size: 1.15rem; font-weight: 600; } .passed { color: var(--mark); }
.refused { color: var(--other); }
.ratios { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr max-content; gap: .3rem .8rem;
  align-items: center; max-width: 48rem; }
.ratios svg { height: 1rem; } .ratios .own rect { fill: var(--mark); } .ratios rect { fill: var(--bar); }
.model-card { max-width: 60rem; } .model-card h3 { margin-top: 1rem; }
.model-card pre { white-space: pre-wrap; } .model-card summary { cursor: pointer; font-weight: 600; }
.hashes td { font-family: ui-monospace, monospace; text-align: left; }
"""
)


def page(validation: Validation, command: str = "") -> str:
    """The page; `command` is what a reader types to make it again."""
    sections = {
        "Model": _model(validation.cards),
        "Verdict": _verdict(validation),
        "Numbers": _numbers(validation.columns),
        "Codec": _codec(validation),
        "Compression": _compression(validation),
        "Latency": _latency(validation),
        "Listen": "".join(map(_heard, validation.heard)) or "<p>No sound was kept.</p>",
        "Limits": _limits(validation),
        "Hashes": _hashes(validation.hashes),
        "Command": f"<code>{escape(command)}</code>",
    }
    if not command:
        del sections["Command"]
    subtitle = ", ".join(f"{part} {digest}" for part, digest in list(validation.hashes.items())[:3])
    title = f"Validation of {validation.name}"
    return document(title, subtitle, facts(validation.facts.items()), sections, STYLE)


def _model(cards: Mapping[str, str]) -> str:
    if not cards:
        return "<p>The bundle holds no model card: what is known of it stands below Hashes.</p>"
    import markdown2

    extras = {"tables": None, "fenced-code-blocks": None, "demote-headers": 2}
    # A card's links lead into a repository that this page is not in.
    texts = {part: LINK.sub(r"\1", text) for part, text in cards.items()}
    return "".join(
        f'<details class="model-card"{" open" if part == "s2s" else ""}><summary>{escape(part)}</summary>'
        f"{markdown2.markdown(text, safe_mode='escape', extras=extras)}</details>"
        for part, text in texts.items()
    )


def _verdict(validation: Validation) -> str:
    verdicts = validation.verdicts
    if not verdicts:
        return "<p>It was not compared with a champion (jobs/promote.py does).</p>"
    missed = [each for each in verdicts if not each.has_passed]
    said = (
        '<p class="verdict passed">Every gate is passed.</p>'
        if not missed
        else f'<p class="verdict refused">{len(missed)} of {len(verdicts)} gates refuse it.</p>'
    )
    rows = "".join(
        f'<tr><th scope="row" class="word">{escape(each.title)}</th>'
        f"{_mark(each)}"
        f'<td class="long">{escape(each.said)}</td></tr>'
        for each in verdicts
    )
    return said + _table("Gates", ["", "what was found"], rows)


def _mark(verdict: Verdict) -> str:
    return '<td class="met">passed</td>' if verdict.has_passed else '<td class="missed">refused</td>'


def _numbers(columns: Mapping[str, Mapping[str, Number]]) -> str:
    if not columns:
        return "<p>No conversation was judged (jobs/evaluate_s2s.py does).</p>"
    rows = ""
    for key, title, form, bound, at_least in NUMBERS:
        values = [column.get(key) for column in columns.values()]
        if all(value is None for value in values):
            continue
        asked = "" if bound is None else f"{'≥' if at_least else '<'} {form.format(bound)}"
        cells = "".join(_cell(value, form, _met(value, bound, at_least=at_least)) for value in values)
        rows += f'<tr><th scope="row" class="word">{escape(title)}</th><td>{escape(asked)}</td>{cells}</tr>'
    return _table("Conversations", ["asked", *columns], rows)


def _met(value: Number, bound: float | None, *, at_least: bool) -> str:
    if value is None or bound is None:
        return ""
    return "met" if (value >= bound if at_least else value < bound) else "missed"


def _codec(validation: Validation) -> str:
    rows = validation.codec_rows
    if not rows:
        return "<p>The codec was not judged (jobs/evaluate_codec.py does).</p>"
    columns = [column for column in COLUMNS if column.key in SHOWN and any(r.get(column.key) for r in rows)]
    body = "".join(
        f'<tr{_own(row["name"] == validation.own_codec)}><th scope="row" class="word">'
        f"{escape(_codec_name(row))}</th>{''.join(_column(row, column) for column in columns)}</tr>"
        for row in rows
    )
    return _table("The codec beside others, on the same clips", [c.heading for c in columns], body)


def _codec_name(row: codec_report.Row) -> str:
    return f"{row['name']}, {row['language']}"


def _column(row: codec_report.Row, column: Column) -> str:
    value = row.get(column.key)
    return _cell(value if isinstance(value, int | float) else None, column.form, "")


def _compression(validation: Validation) -> str:
    ratios = {
        f"{row['name']} {row['kbps']:.1f} kbps": (
            row["compression_ratio"],
            row["name"] == validation.own_codec,
        )
        for row in validation.codec_rows
        if row.get("compression_ratio")
    }
    if not ratios:
        return "<p>No rate was measured.</p>"
    most = max(ratio for ratio, _ in ratios.values())
    bars = "".join(
        f"<span>{escape(name)}</span>"
        f'<svg{_own(is_own)} viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{100 * ratio / most:.1f}" height="4"/></svg><b>{ratio:.0f}x</b>'
        for name, (ratio, is_own) in ratios.items()
    )
    return f'<p class="soft">Bits of the 16-bit sound over bits sent.</p><div class="ratios">{bars}</div>'


def _latency(validation: Validation) -> str:
    rows = "".join(
        f'<tr><th scope="row" class="word">{escape(title)}</th>'
        + "".join(_cell(found.get(key), "{:.1f}", "") for key in ("mean_ms", "std_ms", "p99_ms"))
        + _cell(found.get("count"), "{:,.0f}", "")
        + "</tr>"
        for title, found in validation.latencies.items()
    )
    table = _table("Latency", ["mean, ms", "deviation, ms", "p99, ms", "measured"], rows) if rows else ""
    charts = "".join(
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(title)}</h3><span class="soft">ms, '
        f"{len(histogram):,} ticks, p99 {histogram.quantile(0.99):.1f}; a tick has 40</span></figcaption>"
        f"{histogram_svg(histogram)}</figure>"
        for title, histogram in validation.histograms.items()
    )
    if not rows and not charts:
        return "<p>No latency was measured.</p>"
    return table + f'<div class="grid">{charts}</div>'


def _heard(heard: Heard) -> str:
    words = f'<p class="text" lang="te">{escape(heard.words)}</p>' if heard.words else ""
    takes = "".join(_player(take, heard.title) for take in heard.takes)
    return f'<article><h3>{escape(heard.title)}</h3>{words}<div class="takes">{takes}</div></article>'


def _player(take: Take, title: str) -> str:
    # FLAC: a lossy player would add its own sound to what is compared.
    flac = base64.b64encode(audio.to_flac(take.wave, take.rate_hz)).decode()
    return (
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(take.name)}</h3></figcaption>'
        f"{waveform_svg(take.wave, take.rate_hz, name=take.name)}"
        f'<audio controls preload="none" aria-label="{escape(f"{take.name}, {title}")}" '
        f'src="data:audio/flac;base64,{flac}"></audio></figure>'
    )


def _limits(validation: Validation) -> str:
    missed = [
        f"{who}: {title} is {form.format(value)}, {'≥' if at_least else '<'} {form.format(bound)} is asked"
        for who, column in list(validation.columns.items())[:1]
        for key, title, form, bound, at_least in NUMBERS
        if (value := column.get(key)) is not None
        and bound is not None
        and _met(value, bound, at_least=at_least) == "missed"
    ]
    said = [*validation.limits, *missed]
    if not said:
        return "<p>None are known.</p>"
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in said)}</ul>"


def _hashes(hashes: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><th scope="row" class="word">{escape(part)}</th><td class="word">{escape(digest)}</td></tr>'
        for part, digest in hashes.items()
    )
    return f'<div class="hashes">{_table("What it is made of", ["sha256, the first digits"], rows)}</div>'


def _table(caption: str, head: Sequence[str], body: str) -> str:
    name = escape(caption)
    columns = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><caption>{name}</caption>'
        f'<thead><tr><th scope="col" class="word"></th>{columns}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _cell(value: Number, form: str, mark: str) -> str:
    kind = f' class="{mark}"' if mark else ""
    return f"<td{kind}>{escape(NONE if value is None else form.format(value))}</td>"


def _own(is_own: bool) -> str:
    return ' class="own"' if is_own else ""
