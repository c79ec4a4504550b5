"""What lets a candidate take the champion's place: both judged on the same data in one run, number by number.

With a champion each number may be worse than its own by a margin at most: what judging again would change by
chance. A first model has to be above a floor: below it there is nothing to talk to. A number that is missing
lets nobody through, and says why it is missing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from paluku.config import Config
from paluku.errors import ConfigError

Number = float | int | None


class Gate(Config):
    """One number, which way it is better, and what is asked of it."""

    key: str
    title: str
    form: str = "{:.3f}"
    is_higher_better: bool = True
    margin: float = Field(ge=0)  # how much worse than the champion's it may be
    is_share: bool = False  # the margin is a share of the champion's number
    floor: float  # of a first model: the least, or where lower is better the most


class GateSettings(Config):
    """What a promotion asks otherwise of one gate."""

    margin: float | None = Field(default=None, ge=0)
    floor: float | None = None


class Measured(NamedTuple):
    """A model's numbers; of those that are missing, why."""

    numbers: Mapping[str, Number]
    reasons: Mapping[str, str] = {}


class Verdict(NamedTuple):
    """What became of one gate; `said` is a line that names it and both values."""

    key: str
    title: str
    candidate: Number
    champion: Number
    has_passed: bool
    said: str


PERCENT, PLAIN = "{:.1%}", "{:.3f}"
GATES: tuple[Gate, ...] = (
    Gate(key="answered", title="turns answered at all", form=PERCENT, margin=0.05, floor=0.5),
    Gate(key="reply_accuracy", title="replies that fit", form=PERCENT, margin=0.03, floor=0.2),
    Gate(
        key="perplexity",
        title="perplexity of the first codebook",
        form="{:.2f}",
        is_higher_better=False,
        margin=0.05,
        is_share=True,
        floor=10.0,
    ),
    Gate(
        key="cer_romanised",
        title="character error of the sound to its text",
        is_higher_better=False,
        margin=0.03,
        floor=0.6,
    ),
    Gate(key="speaker_cosine", title="cosine to the chosen voice", margin=0.02, floor=0.65),
    Gate(key="speaker_top1", title="nearest to the chosen voice", form=PERCENT, margin=0.05, floor=0.5),
    Gate(
        key="interruption_stop_rate",
        title="stops in time when interrupted",
        form=PERCENT,
        margin=0.08,
        floor=0.2,
    ),
    Gate(
        key="backchannel_hold_rate",
        title="goes on through a backchannel",
        form=PERCENT,
        margin=0.08,
        floor=0.5,
    ),
    Gate(key="codec_pesq", title="PESQ of its codec", form="{:.2f}", margin=0.1, floor=1.2),
    Gate(key="codec_stoi", title="STOI of its codec", margin=0.02, floor=0.7),
    # A tick's budget is 40 ms; beside it other work has to find room.
    Gate(
        key="tick_p99_ms",
        title="engine tick, p99 ms",
        form="{:.1f}",
        is_higher_better=False,
        margin=0.25,
        is_share=True,
        floor=40.0,
    ),
)
KEYS = tuple(gate.key for gate in GATES)


def with_settings(settings: Mapping[str, GateSettings], gates: Sequence[Gate] = GATES) -> tuple[Gate, ...]:
    """The gates, some with another margin or floor.

    Raises:
        ConfigError: when there is no gate of a name.
    """
    if unknown := settings.keys() - {gate.key for gate in gates}:
        known = ", ".join(gate.key for gate in gates)
        raise ConfigError(f"there is no gate {', '.join(sorted(unknown))}; there are {known}")
    return tuple(
        gate.model_copy(update=settings[gate.key].model_dump(exclude_none=True))
        if gate.key in settings
        else gate
        for gate in gates
    )


def judge(candidate: Measured, champion: Measured | None, gates: Sequence[Gate] = GATES) -> list[Verdict]:
    """One verdict a gate, in their order; without a champion the floors are asked."""
    return [
        _of_first(gate, candidate) if champion is None else _of_rivals(gate, candidate, champion)
        for gate in gates
    ]


def failed(verdicts: Sequence[Verdict]) -> list[str]:
    """What each gate that did not let the candidate through says."""
    return [verdict.said for verdict in verdicts if not verdict.has_passed]


def _of_first(gate: Gate, candidate: Measured) -> Verdict:
    own = _known(candidate.numbers.get(gate.key))
    if own is None:
        return _missing(gate, own, None, _why(gate, "the candidate", candidate))
    word = "least" if gate.is_higher_better else "most"
    asked = f"a first model has {gate.form.format(gate.floor)} at {word}"
    said = f"{gate.title}: candidate {gate.form.format(own)}, no champion; {asked}"
    return Verdict(gate.key, gate.title, own, None, _is_within(gate, own, gate.floor), said)


def _of_rivals(gate: Gate, candidate: Measured, champion: Measured) -> Verdict:
    own, other = (_known(each.numbers.get(gate.key)) for each in (candidate, champion))
    if own is None:
        return _missing(gate, own, other, _why(gate, "the candidate", candidate))
    if other is None:
        return _missing(gate, own, other, _why(gate, "the champion", champion))
    room = gate.margin * abs(other) if gate.is_share else gate.margin
    bound = other - room if gate.is_higher_better else other + room
    word = "least" if gate.is_higher_better else "most"
    said = (
        f"{gate.title}: candidate {gate.form.format(own)}, champion {gate.form.format(other)}; "
        f"{gate.form.format(bound)} is asked at {word}"
    )
    return Verdict(gate.key, gate.title, own, other, _is_within(gate, own, bound), said)


def _is_within(gate: Gate, own: float, bound: float) -> bool:
    # What floating point leaves over must not refuse a candidate that is exactly at the bound.
    slack = 1e-9 * max(1.0, abs(bound))
    return own >= bound - slack if gate.is_higher_better else own <= bound + slack


def _missing(gate: Gate, own: Number, other: Number, why: str) -> Verdict:
    values = ", ".join(
        f"{who} {'-' if value is None else gate.form.format(value)}"
        for who, value in (("candidate", own), ("champion", other))
    )
    return Verdict(gate.key, gate.title, own, other, has_passed=False, said=f"{gate.title}: {values}; {why}")


def _why(gate: Gate, who: str, measured: Measured) -> str:
    reason = measured.reasons.get(gate.key, "there was nothing to measure; judge by more dialogues")
    return f"{who} has no number: {reason}"


def _known(value: Number) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
