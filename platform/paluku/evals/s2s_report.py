"""What was judged of an S2S model as one HTML page: numbers beside what is asked, and conversations to hear.

The page holds everything itself and forbids its browser the network. All text from data is escaped.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from paluku import audio
from paluku.corpus.report.document import document, facts
from paluku.corpus.report.histogram import Histogram, Scale
from paluku.corpus.report.page_style import CSS
from paluku.corpus.report.pictures import histogram_svg, waveform_svg
from paluku.evals import s2s_summary
from paluku.evals.s2s_answers import MOST_ERROR
from paluku.evals.s2s_run import Findings
from paluku.evals.s2s_summary import Judged, Number
from paluku.evals.s2s_turns import Exchange

NONE = "-"
GAPS = Scale("Gap", "ms", -1000.0, 3000.0, 80)
STOPS = Scale("Stop", "ms", 0.0, 2000.0, 50)
STYLE = (
    CSS
    + """
td.met { color: var(--mark); font-weight: 700; } td.missed { color: var(--other); font-weight: 700; }
.right { color: var(--mark); } .wrong { color: var(--other); }
:not(pre, p, li, td) > code, pre {
  display: block; white-space: pre-wrap; font-size: .9rem; background: var(--card); padding: .6rem;
}
pre > code { display: inline; }
"""
)

# Numbers, how each is written, and what is asked of it: a bound, and whether it is the least.
NUMBERS: tuple[tuple[str, str, str, float | None, bool], ...] = (
    ("reply_accuracy", "replies that fit", "{:.1%}", 0.8, True),
    ("reply_accuracy_first", "of first turns", "{:.1%}", None, True),
    ("reply_accuracy_after_right", "of turns after a right one", "{:.1%}", None, True),
    ("reply_error", "character error to the nearest fitting answer", "{:.3f}", None, False),
    ("answered", "turns answered at all", "{:.1%}", None, True),
    ("perplexity", "perplexity of the first codebook", "{:.2f}", 10.0, False),
    ("cross_entropy", "cross-entropy, the greater of text and first codebook", "{:.3f}", 2.0, False),
    ("cer_romanised", "romanised character error of the sound to its text", "{:.3f}", 0.25, False),
    ("speaker_cosine", "cosine to the chosen voice", "{:.3f}", 0.75, True),
    ("speaker_cosine_coded", "to that voice through the codec", "{:.3f}", None, True),
    ("speaker_top1", "nearest to the chosen voice", "{:.1%}", 0.9, True),
    ("style_agreement", "audible changes of style rendered", "{:.1%}", None, True),
    ("interruption_stop_rate", "stops in time when interrupted", "{:.1%}", 0.9, True),
    ("interruption_stop_rate_400", "stops within 400 ms", "{:.1%}", None, True),
    ("interruption_stop_ms_median", "stop, median ms", "{:.0f}", None, False),
    ("interruptions", "interruptions judged", "{:.0f}", None, True),
    ("backchannel_hold_rate", "goes on through a backchannel", "{:.1%}", 0.9, True),
    ("backchannels", "backchannels judged", "{:.0f}", None, True),
    ("gap_ms_median", "gap, median ms", "{:.0f}", None, False),
    ("gap_ms_p10", "gap, 10 % below, ms", "{:.0f}", None, False),
    ("gap_ms_p90", "gap, 90 % below, ms", "{:.0f}", None, False),
    ("gap_share_below_0", "gaps below 0", "{:.1%}", None, False),
    ("user_cer", "character error of what it understood", "{:.3f}", None, False),
)


@dataclass(frozen=True)
class About:
    """Where the numbers come from; `facts` are shown as they are."""

    bundle: str
    hashes: Mapping[str, str]  # of its parts
    data: str
    data_hash: str
    command: str
    lag_ms: float
    samples: int
    facts: Mapping[str, str] = field(default_factory=dict)


def page(about: About, findings: Findings) -> str:
    """The page."""
    sections = {
        "Numbers": _numbers(about, findings),
        "Streams": _streams(findings),
        "Timing": _timing(findings),
        "Voices": _voices(findings),
        "Styles": _styles(findings),
        "Listen": "".join(map(_conversation, findings.judged[: about.samples])) or "<p>None were kept.</p>",
        "Replies": _replies(findings.judged),
        "Notes": _notes(findings.notes),
        "Command": f"<code>{escape(about.command)}</code>",
    }
    parts = ", ".join(f"{name} {digest}" for name, digest in about.hashes.items())
    return document(
        f"The S2S model {about.bundle} on {about.data}",
        f"{parts}; data {about.data_hash}",
        facts(about.facts.items()),
        sections,
        STYLE,
    )


def _numbers(about: About, findings: Findings) -> str:
    head = ["asked", "the model", *(["recorded replies"] if findings.reference_numbers else [])]
    rows = []
    for key, title, form, bound, at_least in NUMBERS:
        value, recorded = findings.numbers.get(key), findings.reference_numbers.get(key)
        asked = "" if bound is None else f"{'≥' if at_least else '<'} {form.format(bound)}"
        cells = [_cell(asked), _cell(_said(value, form), _met(value, bound, at_least=at_least))]
        rows.append(
            (title, [*cells, *([_cell(_said(recorded, form))] if findings.reference_numbers else [])])
        )
    return (
        f'<p class="soft">A reply fits when no answer to any other intent is nearer to its text by character '
        f"error, and that error is at most {MOST_ERROR:.0%}; a reply that the user talked into is compared "
        "with the beginnings of answers. It stops in time when it is silent within "
        f"{s2s_summary.STOP_MS:.0f} ms of the user's first sound, to which every listener's clock adds "
        f"{about.lag_ms:.0f} ms: a frame to fill, the acoustic delay, the codec. Gaps are the listener's. "
        "The voice is compared with recordings of the four (Resemblyzer). Recorded replies are the "
        "dialogues' own, through the codec and the same measures: what they allow.</p>"
        + _table("Numbers", head, rows)
    )


def _met(value: Number, bound: float | None, *, at_least: bool) -> str:
    if value is None or bound is None:
        return ""
    return "met" if (value >= bound if at_least else value < bound) else "missed"


def _streams(findings: Findings) -> str:
    rows = [
        (each.stream, [_cell(f"{each.nats:.3f}"), _cell(f"{each.perplexity:.2f}"), _cell(f"{each.tokens:,}")])
        for each in findings.entropies
    ]
    return (
        '<p class="soft">Of each token, given all that was true before it; the text streams say most of the '
        "time that there is no text: their words alone are beside them.</p>"
        + _table("Streams", ["cross-entropy, nats", "perplexity", "tokens"], rows)
    )


def _timing(findings: Findings) -> str:
    charts = []
    for name, judged in (("the model", findings.judged), ("recorded replies", findings.reference)):
        exchanges = [each for one in judged for each in one.held.exchanges]
        found = [each for one in judged for each in one.held.interjections if each.is_during_reply]
        stops = [each.stop_ms for each in found if each.kind == "interruption"]
        charts += [
            _chart(f"Gaps of {name}, ms", GAPS, [each.gap_ms for each in exchanges]),
            _chart(f"Stops of {name} when interrupted, ms", STOPS, stops),
        ]
    return f'<div class="grid">{"".join(charts)}</div>'


def _chart(title: str, scale: Scale, values: Sequence[float | None]) -> str:
    histogram = Histogram(scale)
    histogram.add(np.array([value for value in values if value is not None], np.float64))
    if not len(histogram):
        return ""
    return (
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(title)}</h3></figcaption>'
        f"{histogram_svg(histogram)}</figure>"
    )


def _voices(findings: Findings) -> str:
    tables = []
    for name, judged in (("The model", findings.judged), ("Recorded replies", findings.reference)):
        found = s2s_summary.of_voices(judged)
        if not found:
            continue
        columns = list(next(iter(found.values())))
        rows = [
            (voice, [_cell(_said(row[column], _form(column))) for column in columns])
            for voice, row in found.items()
        ]
        tables.append(_table(f"{name}: asked for, and mean cosine to each", columns, rows))
    return "".join(tables) or "<p>No voice was judged.</p>"


def _form(column: str) -> str:
    return {"n": "{:.0f}", "top1": "{:.1%}"}.get(column, "{:.3f}")


def _styles(findings: Findings) -> str:
    head = ["replies", "rate", "pitch, semitones", "range", "energy, dB"]
    tables = []
    for name, judged in (("The model", findings.judged), ("Recorded replies", findings.reference)):
        rows = [
            (
                row.style,
                [
                    _cell(f"{row.replies}"),
                    *(
                        _cell(f"{measured:.2f} ({asked:.2f})", _agreement(agrees))
                        for asked, measured, agrees in zip(row.asked, row.measured, row.agrees, strict=True)
                    ),
                ],
            )
            for row in s2s_summary.styles(judged)
        ]
        tables += [_table(f"{name}: medians against neutral recordings", head, rows)] if rows else []
    return (
        '<p class="soft">In brackets what the table of styles asks for. Marked where it asks for an audible '
        "change: rendered when at least half of it is heard, in its direction.</p>" + "".join(tables)
        if tables
        else "<p>No style was judged.</p>"
    )


def _agreement(agrees: float) -> str:
    return "" if math.isnan(agrees) else "met" if agrees else "missed"


def _conversation(judged: Judged) -> str:
    held, case = judged.held, judged.held.case
    length = max(len(case.user), len(held.spoken.wave))
    user, reply = (np.pad(wave, (0, length - len(wave))) for wave in (case.user, held.spoken.wave))
    asked = [turn._asdict() for turn in case.turns]
    replied = [
        {"start_s": each.start_s, "end_s": each.end_s, "kind": "cut" if each.is_cut else "turn"}
        for each in held.exchanges
        if each.start_s is not None
    ]
    turns = "".join(
        _turn(exchange, error) for exchange, error in zip(held.exchanges, judged.sounds.errors, strict=True)
    )
    return (
        f'<article><h3>{escape(case.id)}</h3><p class="soft">{escape(_who(judged))}</p>'
        '<div class="grid wide">'
        f"{_player('User', user, case.rate_hz, asked)}{_player('Reply', reply, case.rate_hz, replied)}"
        f"{_player('Both', np.stack([user, reply], 1), case.rate_hz, ())}</div>"
        f'<ol class="turns">{turns}</ol></article>'
    )


def _who(judged: Judged) -> str:
    held, likeness = judged.held, judged.sounds.likeness
    alike = f", cosine to {held.voice} {likeness.own:.2f}" if likeness else ""
    return f"{held.case.user_voice} to {held.voice}, {held.style}{alike}"


def _player(name: str, wave: np.ndarray, rate_hz: int, turns: Iterable[Mapping[str, Any]]) -> str:
    flac = base64.b64encode(audio.to_flac(wave, rate_hz)).decode()
    picture = waveform_svg(wave, rate_hz, turns, name) if wave.ndim == 1 else ""
    return (
        f'<figure class="card" style="margin:0"><figcaption><h3>{escape(name)}</h3></figcaption>{picture}'
        f'<audio controls preload="none" aria-label="{escape(name)}" src="data:audio/flac;base64,{flac}">'
        "</audio></figure>"
    )


def _turn(exchange: Exchange, error: float | None) -> str:
    fit = exchange.fit
    mark = "" if fit is None else ' class="right"' if fit.is_right else ' class="wrong"'
    told = [f"gap {exchange.gap_ms:.0f} ms" if exchange.gap_ms is not None else "no sound"]
    told += ["talked into"] if exchange.is_cut else []
    told += [f"nearest: {fit.intent} ({fit.error:.2f}), asked: {exchange.asked.intent}"] if fit else []
    told += [f"sound to text {error:.2f}"] if error is not None else []
    return (
        f'<li lang="te">{escape(exchange.asked.text)}<br><span class="soft">understood: '
        f"{escape(exchange.heard or NONE)}</span><br><b{mark}>{escape(exchange.said or NONE)}</b> "
        f'<span class="soft" lang="en">{escape("; ".join(told))}</span></li>'
    )


def _replies(judged: Sequence[Judged]) -> str:
    wrong = [
        _turn(each, error)
        for one in judged
        for each, error in zip(one.held.exchanges, one.sounds.errors, strict=True)
        if each.fit is not None and not each.fit.is_right
    ]
    if not wrong:
        return "<p>All replies that could be judged fit.</p>"
    return f'<p class="soft">Those that do not fit.</p><ol class="turns">{"".join(wrong)}</ol>'


def _notes(notes: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else "<p>None.</p>"


def _said(value: Number, form: str) -> str:
    return NONE if value is None else form.format(value)


def _cell(text: str, mark: str = "") -> str:
    kind = f' class="{mark}"' if mark else ""
    return f"<td{kind}>{escape(text)}</td>"


def _table(caption: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    name = escape(caption)
    columns = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row" class="word">{escape(title)}</th>{"".join(cells)}</tr>' for title, cells in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><caption>{name}</caption>'
        f'<thead><tr><th scope="col" class="word"></th>{columns}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )
