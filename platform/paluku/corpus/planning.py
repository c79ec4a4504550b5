"""The plan of a corpus, made before anything is decoded: which item goes into which shard.

A shard is then a pure function of its plan. Whoever makes it, in whatever order, and however often
after a crash, the same bytes appear.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from paluku import audio
from paluku.config import Config
from paluku.corpus.config import CorpusConfig
from paluku.corpus.dialogues import STYLE, Dialogue, plan_dialogues, render
from paluku.corpus.quality import UnusableError, check
from paluku.corpus.shards import SPLITS, Kind, ShardInfo, Split, write_shard
from paluku.corpus.sources import RecordingFolder, SpokenText, Utterance, sentences_of
from paluku.corpus.splits import split_of
from paluku.corpus.synthesis import Synthesiser, at_level
from paluku.corpus.turns import Turn
from paluku.errors import AudioError, CorpusError
from paluku.voices import VOICES


class ShardPlan(Config):
    """One shard to be made."""

    kind: Kind
    split: Split
    number: int
    items: tuple[Utterance | Dialogue, ...]  # all of one type; their fields tell them apart in JSON


class Reject(Config):
    """An item that was left out."""

    id: str
    split: Split
    reason: str
    detail: str


class ShardOutcome(Config):
    """What became of a plan; `shard` is none when every item was rejected."""

    split: Split
    shard: ShardInfo | None
    num_samples: int
    rejects: tuple[Reject, ...]


Item = TypeVar("Item", bound=Utterance | Dialogue)


def plan_utterance_shards(
    config: CorpusConfig, turns: Sequence[Turn], voices: Sequence[str]
) -> list[ShardPlan]:
    """Recordings and spoken sentences; no speaker is in two splits.

    Raises:
        CorpusError: when the recordings are missing or their manifest is broken, or nothing is asked for.
    """
    utterances = list(SpokenText(sentences_of(turns), voices, config.spoken_utterances).utterances())
    if config.recordings is not None:
        utterances += RecordingFolder(config.recordings, config.max_source_s, config.seed).utterances()
    if not utterances:
        raise CorpusError("there is nothing to build from; set recordings=FOLDER or spoken_utterances=COUNT")
    return _into_shards("utterances", utterances, lambda u: f"{u.source}/{u.speaker}", config)


def plan_dialogue_shards(
    config: CorpusConfig, turns: Sequence[Turn], voices: Sequence[str]
) -> list[ShardPlan]:
    """Rendered dialogues; no question is in two splits. Users have the voices that no reply ever has."""
    users = [voice for voice in voices if voice not in VOICES]
    dialogues = plan_dialogues(turns, config.dialogues, config.reply_voices, users, config.seed)
    return _into_shards("dialogues", dialogues, lambda d: f"question/{d.question}", config)


def make_shard(plan: ShardPlan, folder: Path, config: CorpusConfig, synthesiser: Synthesiser) -> ShardOutcome:
    """Decode or speak every item of a plan and write the shard; what is unusable is left out and named.

    Raises:
        StorageError: when the folder cannot be written.
    """
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for item in plan.items:
        try:
            rows.append(_row(item, config, synthesiser) | {"split": plan.split})
        except UnusableError as error:
            rejects.append(Reject(id=item.id, split=plan.split, reason=error.reason, detail=error.detail))
    return ShardOutcome(
        split=plan.split,
        shard=write_shard(folder, plan.kind, plan.split, plan.number, rows) if rows else None,
        num_samples=sum(row["num_samples"] for row in rows),
        rejects=tuple(rejects),
    )


def _into_shards(
    kind: Kind, items: Iterable[Item], key: Callable[[Item], str], config: CorpusConfig
) -> list[ShardPlan]:
    by_split: dict[Split, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        by_split[split_of(key(item), config.shares, config.seed)].append(item)
    step = config.rows_per_shard
    return [
        ShardPlan(kind=kind, split=split, number=number, items=tuple(members[start : start + step]))
        for split, members in by_split.items()
        for number, start in enumerate(range(0, len(members), step))
    ]


def _row(item: Utterance | Dialogue, config: CorpusConfig, synthesiser: Synthesiser) -> dict[str, Any]:
    if isinstance(item, Dialogue):
        return _dialogue(item, config, synthesiser)
    return _utterance(item, config, synthesiser)


def _utterance(item: Utterance, config: CorpusConfig, synthesiser: Synthesiser) -> dict[str, Any]:
    wave = _wave(item, config.sample_rate_hz, synthesiser)
    check(wave, config.sample_rate_hz, config.limits)
    described = item.model_dump(include={"id", "text", "language", "speaker", "source", "licence"})
    return described | _audio_columns(wave, config.sample_rate_hz)


def _wave(item: Utterance, rate_hz: int, synthesiser: Synthesiser) -> np.ndarray:
    """Float32 `[S]`: decoded when the item has a path, else spoken."""
    if item.path is not None and not item.path.is_file():
        raise UnusableError("missing", f"{item.path} does not exist")
    try:
        if item.path is not None:
            return audio.read_mono(item.path, rate_hz)
        assert item.text is not None, f"{item.id} has neither a path nor a text"
        assert item.voice is not None, f"{item.id} has a text but no voice"
        wave, from_hz = synthesiser.speak(item.text, item.voice)
    except AudioError as error:
        raise UnusableError("broken" if item.path else "unspeakable", str(error)) from error
    return at_level(audio.resample(wave, from_hz, rate_hz))


def _dialogue(item: Dialogue, config: CorpusConfig, synthesiser: Synthesiser) -> dict[str, Any]:
    try:
        wave, turns = render(item, synthesiser, config.sample_rate_hz, config.timing, config.seed)
    except AudioError as error:
        raise UnusableError("unspeakable", str(error)) from error
    check(wave.mean(axis=1), config.sample_rate_hz, config.limits)
    described = {"id": item.id, "voice": item.reply_voice, "style": STYLE, "turns": turns}
    named = {"source": item.source, "licence": item.licence}
    return described | named | _audio_columns(wave, config.sample_rate_hz)


def _audio_columns(wave: np.ndarray, rate_hz: int) -> dict[str, Any]:
    return {"audio": audio.to_flac(wave, rate_hz), "sample_rate_hz": rate_hz, "num_samples": len(wave)}
