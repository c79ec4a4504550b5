"""How well a speaker encoder tells people apart: the equal error rate on pairs of recordings.

Ours and Resemblyzer's (Wan et al. 2018) are asked of the same pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from paluku import audio
from paluku.corpus.columns import columns
from paluku.corpus.shards import ShardSet
from paluku.errors import EvaluationError
from paluku.evals import sound
from paluku.speakers.verification import Pairs, draw_pairs, verify

RATE_HZ = sound.RATE_HZ

# Of a mono wave at 16 kHz, a vector of unit length.
Embed = Callable[[np.ndarray], np.ndarray]


class Judged(NamedTuple):
    """An encoder on pairs of recordings."""

    equal_error_rate: float
    threshold: float  # a cosine
    cosine_same: float  # mean, as the next
    cosine_other: float


class Recorded(NamedTuple):
    """Recordings `[S]` at 16 kHz, and the pairs of them that are compared."""

    waves: list[np.ndarray]
    pairs: Pairs
    speakers: int


def recorded(utterances: ShardSet, most: int, longest_s: float = 6.0, seed: int = 0) -> Recorded:
    """The utterances of a split that `draw_pairs` pairs, up to `longest_s` of each.

    Raises:
        EvaluationError: when the split has no source with two speakers and two utterances of one.
        CorpusError: when a shard cannot be read.
    """
    named = [(source, speaker) for source, speaker in columns(utterances, "source", "speaker")]
    drawn = draw_pairs(named, most, seed)
    if not drawn.same.any() or drawn.same.all():
        raise EvaluationError(
            f"{utterances.folder}: split {utterances.split!r} has no source with two speakers and two "
            "utterances of one; choose another --split"
        )
    rows, pairs = drawn.renumbered()
    waves = [_wave(row)[: round(longest_s * RATE_HZ)] for number in rows for row in utterances.rows([number])]
    return Recorded(waves, pairs, len({named[row] for row in rows}))


def _wave(row: Mapping[str, bytes | str]) -> np.ndarray:
    data, name = row["audio"], row["id"]
    assert isinstance(data, bytes), "an utterance's audio is bytes"
    return audio.read_mono(data, RATE_HZ, str(name))


def judge(recordings: Recorded, embed: Embed) -> Judged:
    """The cosines of all pairs, by an encoder's vectors. A pair is left out where `embed` hears no voice.

    Raises:
        EvaluationError: when nothing is left of one kind of pairs.
    """
    vectors = [_or_none(embed, wave) for wave in recordings.waves]
    scores, same = [], []
    for first, second, is_same in zip(*recordings.pairs, strict=True):
        one, two = vectors[first], vectors[second]
        if one is not None and two is not None:
            scores.append(float(one @ two))
            same.append(bool(is_same))
    cosines, truth = np.array(scores), np.array(same, dtype=bool)
    if not truth.any() or truth.all():
        raise EvaluationError("no voice is heard in the recordings; give others")
    verified = verify(cosines, truth)
    return Judged(*verified, float(cosines[truth].mean()), float(cosines[~truth].mean()))


def _or_none(embed: Embed, wave: np.ndarray) -> np.ndarray | None:
    try:
        return embed(wave)
    except EvaluationError:
        return None


class VoiceCosines(NamedTuple):
    """Held-out recordings of some voices beside the voices' own vectors."""

    right: float  # mean cosine to the voice that speaks
    wrong: float  # mean cosine to the others
    top1: float  # share of recordings that are nearest to the voice that speaks
    recordings: int


def voice_cosines(
    voices: Mapping[str, Float[np.ndarray, "E"]], held_out: Sequence[tuple[str, Float[np.ndarray, "E"]]]
) -> VoiceCosines:
    """`held_out` are who speaks and the recording's vector, all of unit length.

    Raises:
        EvaluationError: when there is nothing to compare.
    """
    if not held_out or len(voices) < 2:
        raise EvaluationError(
            f"{len(held_out)} recordings, {len(voices)} voices: there is nothing to compare"
        )
    names = list(voices)
    cosines = np.stack([vector for _, vector in held_out]) @ np.stack([voices[name] for name in names]).T
    own = np.array([names.index(name) for name, _ in held_out])
    is_own = np.arange(len(names)) == own[:, None]
    top1 = float((cosines.argmax(axis=1) == own).mean())
    return VoiceCosines(float(cosines[is_own].mean()), float(cosines[~is_own].mean()), top1, len(held_out))
