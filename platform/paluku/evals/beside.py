"""What is judged beside a codec on the same clips: baselines that are here, and EnCodec's cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import soundfile

from paluku.codec.port import Codec
from paluku.errors import PalukuError, one_line
from paluku.evals.baselines import Baseline
from paluku.evals.clips import Clip
from paluku.evals.codec import Judgement, Options, judge_baseline, served, speeds
from paluku.evals.judges import Judges
from paluku.evals.rows import ALL, Row

ENCODEC = "encodec, cost"
# Not of what it sounds like: the published weights may not be here, and cost as much as any others.
ENCODEC_NOTE = (
    f"{ENCODEC}: only what EnCodec's published architecture costs at 3 kbps, on random weights; "
    "`evaluate_codec encodec` judges the published ones"
)
# What is judged beside the codec may fail by these, and the codec's own results stay.
FAILURES = (PalukuError, ImportError, OSError, soundfile.LibsndfileError)


class Present(NamedTuple):
    """The baselines that can run here; and of the others, each reason once."""

    baselines: list[Baseline]
    notes: list[str]


def present(baselines: Sequence[Baseline]) -> Present:
    """Asks each whether it is here."""
    why = {id(baseline): baseline.why_absent() for baseline in baselines}
    return Present(
        [baseline for baseline in baselines if why[id(baseline)] is None],
        list(dict.fromkeys(reason for reason in why.values() if reason)),
    )


class BaselineRow(Row):
    """A row of another codec: what was asked of it, whatever a variable rate gave (`kbps`)."""

    nominal_kbps: float


@dataclass
class Tried:
    """What could be judged, and of the rest, why not."""

    judgement: Judgement = field(default_factory=Judgement)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, judged: Callable[[], Judgement]) -> None:
        """Take in what it gives, or why it fails."""
        try:
            self.judgement.add(judged())
        except FAILURES as error:
            self.notes.append(f"{what} is not judged: {one_line(error)}")


def judge_baselines(
    baselines: Sequence[Baseline], clips: Sequence[Clip], judges: Judges, options: Options
) -> Tried:
    """All of them, one after the other; one that fails is a note."""
    tried = Tried()
    for baseline in baselines:
        what = f"{baseline.name} at {baseline.kbps:g} kbps"
        tried.add(what, lambda one=baseline: _named(one, judge_baseline(one, clips, judges, options)))
    return tried


def _named(baseline: Baseline, judgement: Judgement) -> Judgement:
    asked = {"nominal_kbps": baseline.kbps}
    rows = [BaselineRow.model_validate(row.model_dump() | asked) for row in judgement.rows]
    return Judgement([*rows], judgement.speakers, judgement.ignored, judgement.waves)


def try_encodec_cost(clips: Sequence[Clip]) -> Tried:
    """What EnCodec costs and how that is meant; or why it cannot be measured."""
    tried = Tried()
    tried.add(ENCODEC, lambda: Judgement([encodec_cost(clips)]))
    return tried if tried.notes else Tried(tried.judgement, [ENCODEC_NOTE])


def encodec_cost(clips: Sequence[Clip]) -> Row:
    """A row with EnCodec's real-time factors at 3 kbps, measured as those of the codec that is judged."""
    from paluku.codec.encodec import EncodecCodec
    from paluku.codec.encodec_config import EncodecConfig

    config = EncodecConfig(bandwidth_kbps=3.0)
    return cost_row(ENCODEC, EncodecCodec.seeded(0, config), config.num_codebooks, 3.0, clips)


def cost_row(name: str, codec: Codec, depth: int, kbps: float, clips: Sequence[Clip]) -> Row:
    """A row that has real-time factors alone."""
    row = Row(name=name, kbps=kbps, language=ALL, clips=0, depth=depth)
    return row.model_copy(update=costs(codec, [depth], clips)[depth])


def costs(codec: Codec, depths: Sequence[int], clips: Sequence[Clip]) -> dict[int, dict[str, float]]:
    """By depth, a row's real-time factors: of one stream alone, and of one among 16.

    As it is served: with weight norm multiplied out where there is any.
    """
    alone, batch = speeds(served(codec), clips, depths)
    return {
        depth: {
            "rtf_encode": alone.encode,
            "rtf_decode": alone.decode[depth],
            "rtf_encode_batch": batch.encode,
            "rtf_decode_batch": batch.decode[depth],
        }
        for depth in depths
    }


def add_costs(judgement: Judgement, by_depth: Mapping[int, Mapping[str, float]]) -> None:
    """Give every row of a codec of ours the real-time factors of its depth."""
    for rows in (judgement.rows, judgement.speakers):
        rows[:] = [row.model_copy(update=dict(by_depth[row.depth or 0])) for row in rows]
