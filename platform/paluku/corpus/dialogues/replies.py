"""What the reply voices say in a corpus of dialogues: recordings of each voice, by name."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from paluku import audio
from paluku.corpus.columns import columns
from paluku.corpus.dialogues.rendering import REPLY_CHANNEL
from paluku.corpus.shards import ShardSet
from paluku.corpus.splits import fraction

ROLE = "agent"


class Reply(NamedTuple):
    """All that the reply voice says in one dialogue, without the pauses between its turns."""

    voice: str
    style: str
    wave: Float[np.ndarray, "S"]
    rate_hz: int


def replies(dialogues: ShardSet, each: int, seed: int = 0) -> Iterator[Reply]:
    """Of `each` dialogues of every voice (fewer where there are fewer), the same ones in every run.

    Raises:
        CorpusError: when a shard cannot be read.
        AudioError: when a dialogue cannot be decoded.
    """
    for number in _drawn(dialogues, each, seed):
        [row] = dialogues.rows([number])
        wave, rate_hz = audio.read(row["audio"], row["id"])
        spoken = [turn for turn in row["turns"] if turn["role"] == ROLE]
        spans = [(round(turn["start_s"] * rate_hz), round(turn["end_s"] * rate_hz)) for turn in spoken]
        if parts := [wave[start:end, REPLY_CHANNEL] for start, end in spans if end > start]:
            yield Reply(row["voice"], row["style"], np.concatenate(parts), rate_hz)


def _drawn(dialogues: ShardSet, each: int, seed: int) -> list[int]:
    """Numbers of rows, in rising order: what lies together is read together."""
    found: dict[str, list[tuple[float, int]]] = {}
    for number, (row_id, voice) in enumerate(columns(dialogues, "id", "voice")):
        found.setdefault(voice, []).append((fraction(row_id, seed), number))
    return sorted(number for drawn in found.values() for _, number in sorted(drawn)[:each])
