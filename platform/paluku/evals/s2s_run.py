"""One evaluation of an S2S model: choose dialogues, let it speak, listen, and gather what is shown."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from pydantic import Field

from paluku.config import Config
from paluku.corpus.shards import Split
from paluku.corpus.splits import fraction
from paluku.corpus.turns import read_intents
from paluku.errors import EvaluationError
from paluku.evals import s2s_cases, s2s_drive, s2s_entropy, s2s_summary
from paluku.evals.s2s_answers import Answers
from paluku.evals.s2s_cases import Case, Cases
from paluku.evals.s2s_drive import Parts, Sampling
from paluku.evals.s2s_entropy import Entropy
from paluku.evals.s2s_judges import SoundJudges
from paluku.evals.s2s_summary import Judged, Number
from paluku.evals.s2s_turns import Ear, listen
from paluku.registry.bundle import load_codec, load_s2s, load_tokenizer, open_bundle, read_bundle
from paluku.voices import STYLES, VOICES, StyleName, VoiceName

# Seeds of seats: what torch's generators take everywhere.
SEEDS = 2**31


class Evaluation(Config):
    """What is asked for. Without a voice or a style, those of each dialogue; "sweep" is every one in turn."""

    bundle: str
    dialogues: str
    cases: int = Field(default=32, ge=1)
    split: Split = "test"
    batch: int = Field(default=16, ge=1)  # seats
    voice: VoiceName | Literal["sweep"] | None = None
    style: StyleName | Literal["sweep"] | None = None
    seed: int = 0
    sampling: Sampling = Sampling()
    reference: bool = False  # the recorded replies judged too
    recognises: bool = True
    samples: int = Field(default=6, ge=0)  # conversations to hear


class Bundle(NamedTuple):
    """A bundle by what it was called, opened; `hashes` are of its parts."""

    name: str
    hashes: dict[str, str]
    parts: Parts


def opened(spec: str, device: str = "cpu") -> Bundle:
    """`default` (shipped) or a bundle's folder, its model on a device.

    Raises:
        CheckpointError: when it is missing or damaged.
        EvaluationError: when there is no such device here.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise EvaluationError(f"there is no {device} device here; leave out --device")
    folder = open_bundle(spec)
    hashes = read_bundle(folder).model_dump(exclude={"schema_version"})
    parts = Parts(load_codec(folder), load_s2s(folder).to(device), load_tokenizer(folder))
    return Bundle(spec if spec == "default" else folder.name, hashes, parts)


class Prepared(NamedTuple):
    """All that judging needs, looked for before it begins."""

    parts: Parts
    asked: Evaluation
    chosen: Cases
    sessions: list[tuple[Case, VoiceName, StyleName]]

    @property
    def steps(self) -> int:
        """Of progress: a session is spoken, then listened to; a case is foretold, and its recording heard."""
        own = len(self.chosen.cases)
        return 2 * len(self.sessions) + own + (own if self.asked.reference else 0)


class Findings(NamedTuple):
    """What is shown; `reference` is of the recorded replies, empty unless asked for."""

    judged: list[Judged]
    reference: list[Judged]
    entropies: list[Entropy]
    numbers: dict[str, Number]
    reference_numbers: dict[str, Number]
    notes: list[str]


def prepare(parts: Parts, asked: Evaluation) -> Prepared:
    """Choose the dialogues.

    Raises:
        EvaluationError: when there are none, or the bundle's codec does not fit them.
        CorpusError: when the folder is damaged.
    """
    chosen = s2s_cases.choose(asked.dialogues, asked.cases, asked.split, asked.seed)
    s2s_drive.check(parts, chosen.cases[0].rate_hz)
    sessions: list[tuple[Case, VoiceName, StyleName]] = [
        (case, voice, style)
        for case in chosen.cases
        for voice in _voices(asked, case)
        for style in _styles(asked, case)
    ]
    return Prepared(parts, asked, chosen, sessions)


def judge_all(prepared: Prepared, step: Callable[[], None]) -> Findings:
    """Everything; `step` is called `prepared.steps` times."""
    parts, asked, chosen = prepared.parts, prepared.asked, prepared.chosen
    entropies = s2s_entropy.entropies(parts, chosen.cases, step)
    coded: dict[VoiceName, list[Case]] = {
        voice: [replace(case, agent=s2s_drive.recorded(parts, case).wave) for case in cases]
        for voice, cases in chosen.recordings.items()
    }
    judges = SoundJudges.here(chosen.recordings, coded, recognises=asked.recognises)
    wanted = [
        s2s_drive.session(case, voice, style, _seed(f"{case.id}/{voice}/{style}", asked.seed))
        for case, voice, style in prepared.sessions
    ]
    spoken = s2s_drive.drive(parts, wanted, asked.sampling, asked.batch, step)
    ear = Ear(parts.tokenizer, Answers(read_intents()), parts.codec.frame_rate_hz, parts.lag_ms)

    def heard(case: Case, voice: VoiceName, style: StyleName, said: s2s_drive.Spoken) -> Judged:
        held = listen(case, voice, style, said, ear)
        step()
        return Judged(held, judges.judge(held))

    judged = [heard(*each, said) for each, said in zip(prepared.sessions, spoken, strict=True)]
    cases = chosen.cases if asked.reference else []
    reference = [heard(case, case.voice, case.style, s2s_drive.recorded(parts, case)) for case in cases]
    return Findings(
        judged,
        reference,
        entropies,
        s2s_summary.numbers(judged) | s2s_summary.of_entropies(entropies),
        s2s_summary.numbers(reference) if reference else {},
        [*judges.absent, *(f"{count} dialogues {why} left out" for why, count in chosen.left_out.items())],
    )


def _voices(asked: Evaluation, case: Case) -> Sequence[VoiceName]:
    return VOICES if asked.voice == "sweep" else (asked.voice or case.voice,)


def _styles(asked: Evaluation, case: Case) -> Sequence[StyleName]:
    return STYLES if asked.style == "sweep" else (asked.style or case.style,)


def _seed(name: str, seed: int) -> int:
    """Of a session alone: neither the batch nor the other cases change what it says."""
    return int(fraction(name, seed) * SEEDS)
