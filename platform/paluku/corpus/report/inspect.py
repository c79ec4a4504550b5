"""What is in a corpus, in numbers: one pass over its rows without their sound, in bounded memory.

Memory grows with the number of speakers, sources and voices, not with that of rows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from paluku.corpus.report.histogram import Histogram, Scale
from paluku.corpus.shards import SPLITS

DURATION = Scale("Duration", "s", 0, 120, 1200)
UTTERANCE_SCALES: dict[str, Scale] = {
    "duration_s": Scale("Duration", "s", 0, 40, 400),
    "snr_db": Scale("Signal to noise (estimate)", "dB", -10, 90, 200),
    "bandwidth_hz": Scale("Bandwidth", "Hz", 0, 24_000, 240),
    "loudness_lufs": Scale("Loudness before normalisation", "LUFS", -70, 0, 140),
    "silence_share": Scale("Share of silence", "", 0, 1, 100),
    "clipped_share": Scale("Share of clipped samples", "", 0, 1, 1000),
}
# A gap below zero is an overlap: the next speaker began before the last one had ended.
DIALOGUE_SCALES: dict[str, Scale] = {
    "duration_s": DURATION,
    "gap_s": Scale("Gap from a turn to its answer", "s", -3, 5, 400),
}
GROUPED_BY: dict[str, tuple[str, ...]] = {
    "utterances": ("language", "source", "split", "licence", "gender", "source_rate_hz"),
    "dialogues": ("voice", "style", "user_voice", "source", "split", "licence"),
}
UNKNOWN = "-"  # a value that is null
QUANTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
# A turn that takes the floor by the other's leave; what a listener throws in has no gap.
ANSWERS = ("turn", "cut")
EXAMPLES = 3


class Group:
    """Rows that have something in common."""

    def __init__(self) -> None:
        self.rows, self.seconds = 0, 0.0
        self.speakers: set[str] = set()
        self.durations = Histogram(DURATION)

    def add(self, durations_s: np.ndarray, speakers: Iterable[str]) -> None:
        """`[N]` more rows and who speaks in them."""
        self.rows += len(durations_s)
        self.seconds += float(durations_s.sum())
        self.durations.add(durations_s)
        self.speakers.update(speakers)

    def numbers(self) -> dict[str, Any]:
        """As JSON; hours to 0.36 s."""
        found: dict[str, Any] = {"rows": self.rows, "hours": round(self.seconds / 3600, 4)}
        found["speakers"] = len(self.speakers)
        if self.rows:
            found["duration_s"] = spread(self.durations)
        return found


class Talk:
    """Who speaks when, over all dialogues."""

    def __init__(self) -> None:
        self.gaps = Histogram(DIALOGUE_SCALES["gap_s"])
        self.kinds: Counter[str] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.intents: set[str] = set()
        self.overlaps = self.timed = 0

    def add(self, dialogues: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        """The turns of some dialogues, each in order of their start."""
        gaps_s: list[float] = []
        for turns in dialogues:
            gaps_s += answer_gaps_s(turns)
            for turn in turns:
                self.kinds[turn["kind"]] += 1
                self.seconds[turn["role"]] += turn["end_s"] - turn["start_s"]
                self.timed += bool(turn["is_timed"])
        self.overlaps += sum(gap_s < 0 for gap_s in gaps_s)
        self.gaps.add(np.array(gaps_s))

    def numbers(self) -> dict[str, Any]:
        """As JSON."""
        turns = sum(self.kinds.values())
        return {
            "turns": turns,
            "kinds": dict(sorted(self.kinds.items())),
            "backchannels": self.kinds["backchannel"],
            "interruptions": self.kinds["interruption"],
            "answers": len(self.gaps),
            "overlaps": self.overlaps,
            "gap_s": spread(self.gaps) if len(self.gaps) else None,
            "speech_hours": {role: round(s / 3600, 4) for role, s in sorted(self.seconds.items())},
            "engine_timed_share": round(self.timed / max(1, turns), 4),
            "intents": len(self.intents),
        }


class Summary:
    """The numbers of one folder of `utterances` or `dialogues`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.total = Group()
        self.groups: dict[str, dict[str, Group]] = {by: defaultdict(Group) for by in GROUPED_BY[kind]}
        for split in SPLITS:  # an empty one is to be seen
            self.groups["split"][split] = Group()
        scales = UTTERANCE_SCALES if kind == "utterances" else DIALOGUE_SCALES
        self.measures = {name: Histogram(scale) for name, scale in scales.items()}
        self.talk = Talk()
        self.with_text = 0

    def add(self, rows: pa.Table) -> None:
        """Some more rows, in the columns of their kind; those that hold sound are not looked at."""
        durations_s = rows["num_samples"].to_numpy() / rows["sample_rate_hz"].to_numpy()
        speakers = np.array(list(_speakers(rows, self.kind)), object)
        self.total.add(durations_s, speakers)
        self.measures["duration_s"].add(durations_s)
        for by in self.groups:
            self._add_to_groups(by, rows, durations_s, speakers)
        if self.kind == "dialogues":
            self._add_talk(rows)
        else:
            self._add_measures(rows)

    def _add_to_groups(self, by: str, rows: pa.Table, durations_s: np.ndarray, speakers: np.ndarray) -> None:
        values = np.array([UNKNOWN if v is None else str(v) for v in rows[by].to_pylist()], object)
        for value in sorted(set(values)):
            chosen = values == value
            self.groups[by][value].add(durations_s[chosen], speakers[chosen])

    def _add_measures(self, rows: pa.Table) -> None:
        for name in set(self.measures) - {"duration_s"}:
            self.measures[name].add(np.array([np.nan if v is None else v for v in rows[name].to_pylist()]))
        self.with_text += len(rows) - rows["text"].null_count

    def _add_talk(self, rows: pa.Table) -> None:
        self.talk.add(rows["turns"].to_pylist())
        self.measures["gap_s"] = self.talk.gaps
        self.talk.intents.update(i for intents in rows["intents"].to_pylist() for i in intents or () if i)

    def numbers(self) -> dict[str, Any]:
        """Everything as JSON, rounded."""
        found: dict[str, Any] = {"kind": self.kind, **self.total.numbers()}
        found["by"] = {
            by: {value: group.numbers() for value, group in sorted(groups.items())}
            for by, groups in self.groups.items()
            if groups
        }
        found["measures"] = {name: spread(h) for name, h in self.measures.items() if len(h)}
        if self.kind == "dialogues":
            return found | {"talk": self.talk.numbers()}
        return found | {"with_text": self.with_text}


class Rejects:
    """What was left out, by reason; `examples` are the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.sources: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: dict[str, list[tuple[str, str]]] = defaultdict(list)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of `rejects.parquet`."""
        for row in rows:
            reason = row["reason"]
            self.counts[reason] += 1
            self.seconds[reason] += row.get("duration_s") or 0.0
            self.sources[reason][row.get("source") or UNKNOWN] += 1
            if len(self.examples[reason]) < EXAMPLES:
                self.examples[reason].append((row["id"], row["detail"]))

    def numbers(self) -> dict[str, Any]:
        """As JSON, the commonest reason first."""
        return {
            reason: {
                "count": count,
                "hours": round(self.seconds[reason] / 3600, 4),
                "sources": dict(self.sources[reason].most_common()),
            }
            for reason, count in self.counts.most_common()
        }


def summarise(kind: str, batches: Iterable[pa.Table]) -> Summary:
    """The numbers of all rows of a folder of this kind."""
    summary = Summary(kind)
    for rows in batches:
        summary.add(rows)
    return summary


def spread(histogram: Histogram) -> dict[str, float]:
    """Quantiles, mean and bounds, rounded to what can be read."""
    found = {name: histogram.quantile(share) for name, share in QUANTILES.items()}
    found |= {"mean": histogram.mean, "least": float(histogram.least), "most": float(histogram.most)}
    return {name: round(value, 3) for name, value in found.items()}


def answer_gaps_s(turns: Sequence[Mapping[str, Any]]) -> list[float]:
    """From the end of each turn to the start of its answer by the other; below 0 they overlap.

    Backchannels take no floor. An interruption is no answer either: what follows it is measured
    from its end.
    """
    floor = [turn for turn in turns if turn["kind"] != "backchannel"]
    return [
        after["start_s"] - before["end_s"]
        for before, after in pairwise(floor)
        if after["role"] != before["role"] and after["kind"] in ANSWERS
    ]


def _speakers(rows: pa.Table, kind: str) -> Iterator[str]:
    """`source/speaker`: the same name in two corpora is two people. Of dialogues the user's voice."""
    if kind == "utterances":
        for source, speaker in zip(rows["source"].to_pylist(), rows["speaker"].to_pylist(), strict=True):
            yield f"{source}/{speaker}"
    else:
        yield from (UNKNOWN if name is None else name for name in rows["user_voice"].to_pylist())
