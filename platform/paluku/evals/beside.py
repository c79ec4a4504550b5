"""What is judged beside a codec on the same clips: baselines that are here, and EnCodec's cost."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from paluku import audio
from paluku.codec.port import Codec
from paluku.evals.baselines import Baseline
from paluku.evals.clips import Clip
from paluku.evals.codec import BATCH_SEATS, SPEED_S, Judgement, Options, judge_baseline
from paluku.evals.judges import Judges
from paluku.evals.rows import ALL, Row
from paluku.evals.speed import real_time_factors

ENCODEC = "encodec, cost"
# Not of what it sounds like: the published weights may not be here, and cost as much as any others.
ENCODEC_NOTE = (
    f"{ENCODEC}: only what EnCodec's published architecture costs at 3 kbps, on random weights; "
    "`evaluate_codec encodec` judges the published ones"
)


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


def judge_baselines(
    baselines: Sequence[Baseline], clips: Sequence[Clip], judges: Judges, options: Options
) -> Judgement:
    """All of them, one after the other.

    Raises:
        EvaluationError: as `judge_baseline`.
    """
    judgement = Judgement()
    for baseline in baselines:
        judgement.add(judge_baseline(baseline, clips, judges, options))
    return judgement


def encodec_cost(clips: Sequence[Clip]) -> Row:
    """A row with EnCodec's real-time factors at 3 kbps, measured as those of the codec that is judged."""
    from paluku.codec.encodec import EncodecCodec
    from paluku.codec.encodec_config import EncodecConfig

    config = EncodecConfig(bandwidth_kbps=3.0)
    return cost_row(ENCODEC, EncodecCodec.seeded(0, config), config.num_codebooks, 3.0, clips)


def cost_row(name: str, codec: Codec, depth: int, kbps: float, clips: Sequence[Clip]) -> Row:
    """A row that has real-time factors alone."""
    parts = [audio.resample(clip.wave, clip.rate_hz, codec.sample_rate_hz) for clip in clips[:BATCH_SEATS]]
    speech = np.concatenate(parts)[: round(SPEED_S * codec.sample_rate_hz)]
    factors: Callable[[int], tuple[float, float]] = functools.partial(_factors, codec, speech, depth)
    (encode, decode), (encode_batch, decode_batch) = factors(1), factors(BATCH_SEATS)
    return Row(
        name=name,
        kbps=kbps,
        language=ALL,
        clips=0,
        depth=depth,
        rtf_encode=encode,
        rtf_decode=decode,
        rtf_encode_batch=encode_batch,
        rtf_decode_batch=decode_batch,
    )


def _factors(codec: Codec, speech: np.ndarray, depth: int, seats: int) -> tuple[float, float]:
    speed = real_time_factors(codec, speech.astype(np.float32), [depth], seats)
    return speed.encode, speed.decode[depth]
