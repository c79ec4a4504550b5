"""A bundle's numbers as the gates take them: its conversations, and its codec on those dialogues' replies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paluku import audio
from paluku.errors import EvaluationError
from paluku.evals import s2s_run, sound
from paluku.evals.clips import MAX_S, MIN_S, Clip, Ignored
from paluku.evals.codec import RATE_HZ, Options, judge, key_of
from paluku.evals.gates import Measured, Number
from paluku.evals.judges import Judges
from paluku.evals.rows import ALL, Row
from paluku.evals.s2s_cases import Case
from paluku.evals.s2s_run import Bundle, Findings, Prepared

CODEC_METRICS = ("pesq", "stoi")
# Numbers of conversations that need a judge, and how the line begins that says why there is none here.
VOICES_ARE_NOT = ("speaker_cosine is not judged", "there is no recording of")
NEEDS = {
    "cer_romanised": ("character error is not judged",),
    "speaker_cosine": VOICES_ARE_NOT,
    "speaker_top1": VOICES_ARE_NOT,
}


@dataclass(frozen=True)
class Rival:
    """What was found of one bundle."""

    bundle: Bundle
    prepared: Prepared
    findings: Findings
    codec_row: Row
    waves: Mapping[str, Mapping[str, np.ndarray]]  # before and after at `RATE_HZ`, by clip
    ticks_ms: np.ndarray
    reasons: Mapping[str, str] = field(default_factory=dict)  # why a number is missing

    @property
    def measured(self) -> Measured:
        """For the gates."""
        numbers: dict[str, Number] = dict(self.findings.numbers)
        numbers |= {f"codec_{name}": getattr(self.codec_row, name) for name in CODEC_METRICS}
        numbers["tick_p99_ms"] = float(np.percentile(self.ticks_ms, 99)) if len(self.ticks_ms) else None
        return Measured(numbers, self.reasons)


def rival(
    bundle: Bundle, prepared: Prepared, ticks_ms: np.ndarray, step: Callable[[], None] = lambda: None
) -> Rival:
    """Let a bundle speak, and its codec repeat the recorded replies; `step` is called `prepared.steps` times.

    Raises:
        EvaluationError: when no dialogue has a second of recorded reply.
    """
    asked = prepared.asked
    findings = s2s_run.judge_all(prepared, step)
    codec, clips = bundle.parts.codec, replies(prepared.chosen.cases)
    judges = Judges(metrics={name: sound.METRICS[name] for name in CODEC_METRICS})
    options = Options(keep=asked.samples, measures_speed=False)
    judgement = judge(codec, "codec", clips, [codec.num_codebooks], judges, options)
    row = next(row for row in judgement.rows if row.language == ALL)
    waves = {
        clip.id: {
            "original": audio.resample(clip.wave, clip.rate_hz, RATE_HZ),
            **judgement.waves[key_of(clip)],
        }
        for clip in clips
        if key_of(clip) in judgement.waves
    }
    reasons = {f"codec_{name}": _why_silent(name, judgement.ignored) for name in CODEC_METRICS}
    reasons |= _reasons(findings.notes, recognises=asked.recognises)
    return Rival(bundle, prepared, findings, row, waves, ticks_ms, reasons)


def replies(cases: Sequence[Case]) -> list[Clip]:
    """What was recorded as a reply in each dialogue, one clip a dialogue, without the pauses.

    Raises:
        EvaluationError: when no dialogue has a second of it.
    """
    clips = [_clip(case) for case in cases]
    audible = [clip for clip in clips if clip.seconds >= MIN_S]
    if not audible:
        raise EvaluationError(f"no dialogue has {MIN_S:g} s of recorded reply; its codec cannot be judged")
    return audible


def _clip(case: Case) -> Clip:
    said = [case.agent[round(t.start_s * case.rate_hz) : round(t.end_s * case.rate_hz)] for t in case.replies]
    wave = np.concatenate([*said, np.zeros(0, np.float32)])[: round(MAX_S * case.rate_hz)]
    return Clip(
        id=case.id,
        wave=wave.astype(np.float32),
        rate_hz=case.rate_hz,
        language="te",
        speaker=case.voice,
        source="dialogues",
        licence=str(case.row.get("licence", "")),
    )


def _why_silent(metric: str, ignored: Sequence[Ignored]) -> str:
    absent = sound.why_absent(metric)
    return absent or next((each.detail for each in ignored if each.reason == f"no {metric}"), "")


def _reasons(notes: Sequence[str], *, recognises: bool) -> dict[str, str]:
    """Of what a judge was not here for, the judge's own line."""
    found = {
        key: next((note for note in notes if note.startswith(beginnings)), "")
        for key, beginnings in NEEDS.items()
    }
    if not recognises:
        found["cer_romanised"] = "the recogniser was left out (recognises=false)"
    return {key: reason for key, reason in found.items() if reason}
