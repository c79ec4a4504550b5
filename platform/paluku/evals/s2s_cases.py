"""Which dialogues an S2S model is judged on: what a user says in them is fed to the model as it was recorded.

A dialogue whose user's channel holds an echo of the recorded reply is left out: the model says something
else. Half of those that are chosen have an interruption, where there are so many; reply voices take turns.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np

from paluku import audio
from paluku.corpus.report import scan
from paluku.corpus.shards import MANIFEST, Split, read_manifest
from paluku.corpus.splits import fraction
from paluku.corpus.storage import Place
from paluku.errors import EvaluationError
from paluku.voices import STYLES, VOICES, StyleName, VoiceName

AGENT, USER = 0, 1  # channels of a dialogue
BACKCHANNEL, INTERRUPTION = "backchannel", "interruption"
# Recordings of each reply voice that its sound is compared with: so many neutral ones, and others.
RECORDINGS_EACH = 4


class Turn(NamedTuple):
    """Something that one side says; `intent` is what the user means by it, where that is known."""

    text: str
    start_s: float
    end_s: float
    kind: str  # turn, backchannel, interruption, cut
    intent: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """One dialogue: waves are float32 `[S]`; turns stand in the order of their starts."""

    id: str
    user: np.ndarray
    agent: np.ndarray
    rate_hz: int
    turns: tuple[Turn, ...]  # the user's
    replies: tuple[Turn, ...]  # as they were recorded
    voice: VoiceName
    style: StyleName
    user_voice: str
    row: Mapping[str, Any]  # of the shard

    @property
    def asked(self) -> tuple[Turn, ...]:
        """The user's turns that want an answer."""
        return tuple(turn for turn in self.turns if turn.kind != BACKCHANNEL)

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.user) / self.rate_hz


class Cases(NamedTuple):
    """What is judged, recordings of each voice in several styles, and what was left out, by reason."""

    cases: list[Case]
    recordings: dict[VoiceName, list[Case]]
    left_out: dict[str, int]
    data_hash: str


def choose(where: str, count: int, split: Split, seed: int) -> Cases:
    """The same ones in every run; recordings are of other dialogues where there are such.

    Raises:
        EvaluationError: when no dialogue of the split can be judged.
        CorpusError: when the folder is missing, holds something else, or is damaged.
    """
    place = Place.of(where)
    if not place.exists(MANIFEST):
        raise EvaluationError(f"{where} holds no dialogues; make some with jobs/build_dialogues.py")
    manifest = read_manifest(place, "dialogues")
    shards = tuple(shard for shard in manifest.shards if shard.split == split)
    found = _listed(place, manifest.model_copy(update={"shards": shards}))
    reasons = {spot: _unusable(row) for spot, row in found}
    usable = [(spot, row) for spot, row in found if not reasons[spot]]
    ordered = _spread(usable, seed)
    chosen = ordered[:count]
    if not chosen:
        said = ", ".join(f"{n} {why}" for why, n in Counter(filter(None, reasons.values())).items())
        raise EvaluationError(f"{where} has no dialogue of split {split!r} to judge by ({said or 'no rows'})")
    others = ordered[count:] + chosen
    recordings: dict[VoiceName, list[Case]] = {
        voice: [case_of(row) for row in scan.fetch(place, _recordings(others, voice))] for voice in VOICES
    }
    return Cases(
        [case_of(row) for row in scan.fetch(place, [spot for spot, _ in chosen])],
        recordings,
        dict(Counter(why for why in reasons.values() if why)),
        manifest.hash,
    )


def _recordings(found: Sequence[tuple[scan.Spot, dict[str, Any]]], voice: VoiceName) -> list[scan.Spot]:
    heard = [each for each in found if any(turn["role"] == "agent" for turn in each[1]["turns"])]
    own = [(spot, row["style"] == "neutral") for spot, row in heard if row["voice"] == voice]
    neutral, others = ([spot for spot, is_neutral in own if is_neutral == wanted] for wanted in (True, False))
    return neutral[:RECORDINGS_EACH] + others[:RECORDINGS_EACH]


def case_of(row: Mapping[str, Any]) -> Case:
    """A row of the dialogues schema.

    Raises:
        EvaluationError: when it has not two channels.
    """
    wave, rate_hz = audio.read(row["audio"], row["id"])
    if wave.shape[1] != 2:
        raise EvaluationError(f"{row['id']} has {wave.shape[1]} channels; a dialogue has two")
    said = sorted(row["turns"], key=lambda turn: (turn["start_s"], turn["end_s"]))
    return Case(
        id=row["id"],
        user=np.ascontiguousarray(wave[:, USER]),
        agent=np.ascontiguousarray(wave[:, AGENT]),
        rate_hz=rate_hz,
        turns=tuple(_with_intents([turn for turn in said if turn["role"] == "user"], row["intents"])),
        replies=tuple(_turn(turn) for turn in said if turn["role"] == "agent"),
        voice=row["voice"],
        style=row["style"],
        user_voice=row["user_voice"],
        row=row,
    )


def _with_intents(said: Sequence[Mapping[str, Any]], intents: Sequence[str]) -> Iterable[Turn]:
    """Each intent is asked once, in order; a backchannel means none."""
    asked = iter(intents)
    for turn in said:
        yield _turn(turn, "" if turn["kind"] == BACKCHANNEL else next(asked, ""))


def _turn(turn: Mapping[str, Any], intent: str = "") -> Turn:
    return Turn(turn["text"], turn["start_s"], turn["end_s"], turn["kind"], intent)


def _listed(place: Place, manifest: Any) -> list[tuple[scan.Spot, dict[str, Any]]]:
    columns = ("id", "voice", "style", "augmentation", "turns")
    found = []
    for batch in scan.scan(place, manifest):
        for offset, row in enumerate(batch.rows.select(columns).to_pylist()):
            found.append((scan.Spot(batch.shard, batch.first_row + offset), row))
    return found


def _unusable(row: Mapping[str, Any]) -> str:
    """Why a dialogue cannot be judged by; nothing where it can."""
    if json.loads(row["augmentation"]).get("echo"):
        return "with an echo"
    if row["voice"] not in VOICES or row["style"] not in STYLES:
        return "of an unknown voice or style"
    wants_answer = any(turn["role"] == "user" and turn["kind"] != BACKCHANNEL for turn in row["turns"])
    return "" if wants_answer else "without a question"


def _spread(
    found: Iterable[tuple[scan.Spot, dict[str, Any]]], seed: int
) -> list[tuple[scan.Spot, dict[str, Any]]]:
    """With and without an interruption by turns, and among each the reply voices; else by the seed alone."""
    drawn = sorted(found, key=lambda each: fraction(each[1]["id"], seed))
    groups: dict[bool, dict[str, list[Any]]] = {True: defaultdict(list), False: defaultdict(list)}
    for each in drawn:
        is_interrupted = any(turn["kind"] == INTERRUPTION for turn in each[1]["turns"])
        groups[is_interrupted][each[1]["voice"]].append(each)
    return _by_turns([_by_turns([of_one[v] for v in sorted(of_one)]) for of_one in groups.values()])


def _by_turns(groups: Iterable[Sequence[Any]]) -> list[Any]:
    """The first of each, then the second of each, ..."""
    return [each for each in chain.from_iterable(zip_longest(*groups)) if each is not None]
