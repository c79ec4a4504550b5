"""The tables a person wants of a corpus: plain text, for a terminal and for a page alike."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from paluku.corpus.report.inspect import Rejects, Summary

MOST_ROWS = 30  # of a breakdown: what is beyond is one line
NONE = "-"

TITLES = {
    "language": "By language",
    "source": "By source",
    "split": "By split",
    "licence": "By licence",
    "gender": "By gender",
    "source_rate_hz": "By rate of the recording (Hz)",
    "voice": "By reply voice",
    "style": "By style of the reply",
    "user_voice": "By user voice",
}


class Table(NamedTuple):
    """Headings and cells; the first `labels` columns are words, the others numbers."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    labels: int = 1


def overview(summary: Summary, found: Rejects) -> Table:
    """The few numbers that come first."""
    total, left_out = summary.total, sum(found.counts.values())
    things = "speakers" if summary.kind == "utterances" else "user voices"
    rows = {
        "sound": hours(total.seconds),
        summary.kind: f"{total.rows:,}",
        things: f"{len(total.speakers):,}",
        "rejected": f"{left_out:,} ({left_out / max(1, total.rows + left_out):.1%})",
    }
    return Table("Overview", ("", ""), list((rows | _more(summary)).items()))


def breakdowns(summary: Summary) -> list[Table]:
    """One table for each thing that rows are grouped by."""
    numbers = summary.numbers()["by"]
    return [_breakdown(TITLES[by], groups, summary.kind) for by, groups in numbers.items()]


def measures(summary: Summary) -> Table:
    """Quantiles of whatever was measured."""
    numbers = summary.numbers()["measures"]
    rows = []
    for name, spread in numbers.items():
        scale = summary.measures[name].scale
        title = f"{scale.title} ({scale.unit})" if scale.unit else scale.title
        rows.append((title, *(f"{spread[key]:,.4g}" for key in ("p5", "p25", "p50", "p75", "p95", "mean"))))
    return Table("Measured", ("", "5 %", "25 %", "median", "75 %", "95 %", "mean"), rows)


def rejected(found: Rejects) -> Table:
    """By reason, with where they come from and the first few of them."""
    rows = [
        (
            reason,
            f"{count:,}",
            hours(found.seconds[reason]),
            ", ".join(f"{source} {n:,}" for source, n in found.sources[reason].most_common(5)),
            "; ".join(f"{name} ({detail})" if detail else name for name, detail in found.examples[reason]),
        )
        for reason, count in found.counts.most_common()
    ]
    return Table("Rejected", ("reason", "count", "length", "sources", "first examples"), rows)


def hours(seconds: float) -> str:
    """Readable at any size: `12.3 h`, `4.5 min`, `6.7 s`."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def _more(summary: Summary) -> dict[str, str]:
    if summary.kind == "utterances":
        with_text = f"{summary.with_text:,} ({summary.with_text / max(1, summary.total.rows):.0%})"
        return {"with text": with_text}
    talk = summary.talk.numbers()
    gap_s = talk["gap_s"]
    return {
        "intents": f"{talk['intents']:,}",
        "turns": f"{talk['turns']:,}",
        "backchannels": f"{talk['backchannels']:,}",
        "interruptions": f"{talk['interruptions']:,}",
        "median gap": f"{1000 * gap_s['p50']:.0f} ms" if gap_s else NONE,
        "overlaps": f"{talk['overlaps']:,} of {talk['answers']:,} answers",
        **{f"{role} speaks": hours(3600 * said) for role, said in talk["speech_hours"].items()},
        "words timed by the engine": f"{talk['engine_timed_share']:.0%} of turns",
    }


def _breakdown(title: str, groups: Mapping[str, dict[str, Any]], kind: str) -> Table:
    ranked = sorted(groups.items(), key=lambda item: (-item[1]["hours"], item[0]))
    headings = (
        "",
        "length",
        kind,
        "speakers" if kind == "utterances" else "user voices",
        "duration 5 / 50 / 95 %",
    )
    rows = [(value, *_group(group)) for value, group in ranked[:MOST_ROWS]]
    if rest := [group for _, group in ranked[MOST_ROWS:]]:
        total_s = 3600 * sum(group["hours"] for group in rest)
        rows.append((f"{len(rest)} more", hours(total_s), f"{sum(g['rows'] for g in rest):,}", NONE, NONE))
    return Table(title, headings, rows)


def _group(group: Mapping[str, Any]) -> tuple[str, ...]:
    spread = group.get("duration_s")
    quantiles = " / ".join(f"{spread[key]:.1f}" for key in ("p5", "p50", "p95")) + " s" if spread else NONE
    return hours(3600 * group["hours"]), f"{group['rows']:,}", f"{group['speakers']:,}", quantiles
