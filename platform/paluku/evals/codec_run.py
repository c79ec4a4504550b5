"""One evaluation of a codec: look for all that is needed, choose clips, judge, and gather what is shown."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from paluku.codec.port import Codec
from paluku.config import Config
from paluku.corpus.shards import Split
from paluku.evals import beside, codec_results
from paluku.evals.baselines import Baseline, baselines
from paluku.evals.clips import Chosen, Wanted, choose
from paluku.evals.codec import RATE_HZ, Options, judge
from paluku.evals.codec_report import About, Findings
from paluku.evals.judges import Judges


class Evaluation(Config):
    """What is asked for. No depths are those that fit the rates codecs are compared at."""

    codec: str
    data: str
    depths: tuple[int, ...] = ()
    clips: int = Field(default=40, ge=1)
    split: Split = "test"
    languages: tuple[str, ...] = ()
    with_baselines: bool = True
    recognises: bool = True
    samples: int = Field(default=4, ge=0)  # clips to hear
    workers: int = Field(default=0, ge=0)


class Prepared(NamedTuple):
    """All that judging needs, looked for before it begins."""

    codec: Codec
    asked: Evaluation
    name: str  # in the rows
    folder: Path | None  # the codec's own, if it has one
    depths: tuple[int, ...]
    chosen: Chosen
    baselines: list[Baseline]
    notes: list[str]

    @property
    def steps(self) -> int:
        """Clips times what they are judged at."""
        return len(self.chosen.clips) * (len(self.depths) + len(self.baselines))


def prepare(codec: Codec, asked: Evaluation) -> Prepared:
    """Choose clips and depths.

    Raises:
        EvaluationError: when a depth is too large, or no clip can be judged.
        CorpusError: when the recordings are missing or broken.
    """
    depths = codec_results.depths_of(codec, asked.depths)
    wanted = Wanted(asked.clips, asked.split, asked.languages)
    chosen = choose(asked.data, wanted, max(codec.sample_rate_hz, RATE_HZ))
    here = beside.present(baselines() if asked.with_baselines else [])
    name, folder = Path(asked.codec).name, codec_results.folder_of(asked.codec)
    return Prepared(codec, asked, name, folder, depths, chosen, here.baselines, here.notes)


def judge_all(prepared: Prepared, command: str, step: Callable[[], None]) -> tuple[About, Findings]:
    """The codec at its depths, then what is beside it; `command` is what a reader types to do so again.

    `step` is called `prepared.steps` times, or less often where a baseline fails: that is a note.
    """
    asked, clips = prepared.asked, prepared.chosen.clips
    judges = Judges.here(recognises=asked.recognises, workers=asked.workers)
    notes = [*prepared.notes, *judges.absent]
    options = Options(keep=asked.samples, step=step)
    # One right after the other, so that what the machine does meanwhile is as much for both.
    costs = beside.costs(prepared.codec, prepared.depths, clips)
    with_encodec = asked.with_baselines and asked.codec != "encodec"
    encodec = beside.try_encodec_cost(clips) if with_encodec else beside.Tried()
    untimed = replace(options, measures_speed=False)
    judgement = judge(prepared.codec, prepared.name, clips, prepared.depths, judges, untimed)
    beside.add_costs(judgement, costs)
    for tried in (beside.judge_baselines(prepared.baselines, clips, judges, options), encodec):
        judgement.add(tried.judgement)
        notes += tried.notes
    return _about(prepared, command, notes), Findings.of(judgement, prepared.chosen)


def _about(prepared: Prepared, command: str, notes: list[str]) -> About:
    codec = prepared.codec
    kbps = ", ".join(f"{codec_results.kbps_of(codec, depth):.2f}" for depth in prepared.depths)
    facts = {
        "rate inside": f"{codec.sample_rate_hz:,} Hz",
        "frames": f"{codec.frame_rate_hz:g} a second",
        "codebooks": f"{codec.num_codebooks} of {codec.codebook_size:,}",
        "judged at": f"{kbps} kbps",
        "lag": f"{1000 * codec.delay_samples / codec.sample_rate_hz:.1f} ms",
        "lookahead": f"{codec.encode_lookahead_frames} + {codec.decode_lookahead_frames} frames",
    }
    return About(
        codec=prepared.name,
        hash=codec_results.hash_of(codec, prepared.folder),
        licence=codec_results.licence_of(prepared.asked.codec, prepared.folder),
        data=prepared.asked.data,
        codebook_size=codec.codebook_size,
        command=command,
        facts=facts,
        notes=tuple(notes),
    )
