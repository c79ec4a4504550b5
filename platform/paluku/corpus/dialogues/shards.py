"""One shard of dialogues, made from its plan: what is unspeakable is left out and named."""

from collections import Counter
from typing import Any

from pydantic import Field

from paluku import audio
from paluku.config import Config
from paluku.corpus.dialogues.conversations import Conversation, ConversationsConfig
from paluku.corpus.dialogues.conversations import rows as conversation_rows
from paluku.corpus.dialogues.plans import ShardPlan
from paluku.corpus.dialogues.rendering import Dialogue, Rendering, described, render
from paluku.corpus.dialogues.takes import Speaker
from paluku.corpus.preparation.quality import Reject, UnusableError
from paluku.corpus.shards import AnyFolder, ShardInfo, Split, write_shard
from paluku.errors import AudioError

# Columns by which the hours of a corpus of dialogues are told.
BY_COLUMN = ("split", "voice", "style", "user_voice", "source")


class ShardOutcome(Config):
    """What became of a plan; `shard` is none when every dialogue was rejected."""

    split: Split
    shard: ShardInfo | None
    num_samples: int = 0
    audio_s: float = 0.0
    samples: dict[str, dict[str, int]] = Field(default_factory=dict)  # by column and value
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)  # of intents and of kinds of turns
    licences: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # of each source
    rejects: tuple[Reject, ...] = ()


class Making(Config):
    """All that a shard depends on, besides its plan and who speaks."""

    rendering: Rendering = Rendering()
    conversations: ConversationsConfig | None = None
    seed: int = 0


def make_shard(plan: ShardPlan, folder: AnyFolder, speaker: Speaker, making: Making) -> ShardOutcome:
    """Render every dialogue of a plan, or read its recorded conversations, and write the shard.

    Raises:
        StorageError: when the folder cannot be written.
        ServiceError: when a voice's program or library is not installed.
    """
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for item in (*plan.dialogues, *plan.conversations):
        try:
            rows += _rows(item, speaker, making)
        except UnusableError as error:
            rejects.append(_reject(item, making, error.reason, error.detail))
        except AudioError as error:
            reason = "unspeakable" if isinstance(item, Dialogue) else "broken"
            rejects.append(_reject(item, making, reason, str(error)))
    return _outcome(plan, rows, rejects, folder, making)


def _outcome(
    plan: ShardPlan, rows: list[dict[str, Any]], rejects: list[Reject], folder: AnyFolder, making: Making
) -> ShardOutcome:
    samples = sum(row["num_samples"] for row in rows)
    return ShardOutcome(
        split=plan.split,
        shard=write_shard(folder, "dialogues", plan.split, plan.number, rows) if rows else None,
        num_samples=samples,
        audio_s=samples / making.rendering.sample_rate_hz,
        samples={column: _samples_by(column, rows) for column in BY_COLUMN},
        counts={
            "intent": Counter(intent for row in rows for intent in row["intents"] if intent),
            "kind": Counter(turn["kind"] for row in rows for turn in row["turns"]),
        },
        licences={row["source"]: _licences(rows, row["source"]) for row in rows},
        rejects=tuple(rejects),
    )


def _rows(item: Dialogue | Conversation, speaker: Speaker, making: Making) -> list[dict[str, Any]]:
    rate_hz = making.rendering.sample_rate_hz
    if isinstance(item, Conversation):
        assert making.conversations is not None, "whoever plans conversations has their settings"
        return list(conversation_rows(item, making.conversations, rate_hz))
    rendered = render(item, speaker, making.rendering, making.seed)
    sound = {"audio": audio.to_flac(rendered.wave, rate_hz), "sample_rate_hz": rate_hz}
    return [described(item, rendered) | sound | {"num_samples": len(rendered.wave)}]


def _samples_by(column: str, rows: list[dict[str, Any]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row[column]] += row["num_samples"]
    return dict(sums)


def _licences(rows: list[dict[str, Any]], source: str) -> tuple[str, ...]:
    return tuple(sorted({row["licence"] for row in rows if row["source"] == source}))


def _reject(item: Dialogue | Conversation, making: Making, reason: str, detail: str) -> Reject:
    if isinstance(item, Dialogue):
        source = item.source
    else:
        source = making.conversations.name if making.conversations else ""
    return Reject(id=item.id, source=source, reason=reason, detail=detail, duration_s=0.0)
