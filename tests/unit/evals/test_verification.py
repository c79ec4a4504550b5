"""Speaker encoders judged on pairs of recordings."""

from pathlib import Path

import numpy as np
import pytest

from paluku.corpus.shards import ShardSet
from paluku.errors import EvaluationError
from paluku.evals.verification import RATE_HZ, Recorded, judge, recorded, voice_cosines
from paluku.speakers.verification import Pairs
from tests.fakes.speakers import write_speakers


def by_spectrum(wave: np.ndarray) -> np.ndarray:
    """How loud twenty bands are: who has the same formants is the same."""
    power = np.square(np.abs(np.fft.rfft(wave)))[: len(wave) // 80 * 20]
    bands = np.log(power.reshape(20, -1).sum(axis=1) + 1e-9)
    return (bands - bands.mean()) / np.linalg.norm(bands - bands.mean())


def test_recordings_are_those_of_the_pairs(tmp_path: Path) -> None:
    corpus = write_speakers(tmp_path, train=1, dev=4, each=3, duration_s=1.0)
    found = recorded(ShardSet(corpus, "utterances", "dev"), most=6, longest_s=0.5)
    assert found.speakers == 4
    assert (len(found.pairs.same), found.pairs.same.sum()) == (12, 6)
    assert {len(wave) for wave in found.waves} == {RATE_HZ // 2}
    judged = judge(found, by_spectrum)
    assert judged.cosine_same > judged.cosine_other
    assert judged.equal_error_rate < 0.2


def test_a_split_without_pairs_is_refused(tmp_path: Path) -> None:
    corpus = write_speakers(tmp_path, train=1, dev=1)
    with pytest.raises(EvaluationError, match="split 'dev' has no source with two speakers"):
        recorded(ShardSet(corpus, "utterances", "dev"), most=6)


WAVES = [np.full(10, level, np.float32) for level in (0.0, 0.1, 0.2, 0.9)]
PAIRS = Pairs(np.array([0, 1, 0, 1]), np.array([1, 2, 3, 3]), np.array([True, True, False, False]))


def deaf_to_silence(wave: np.ndarray) -> np.ndarray:
    if not wave.any():
        raise EvaluationError("no voice is heard")
    return np.array([np.cos(wave[0]), np.sin(wave[0])])


def test_a_recording_without_a_voice_is_left_out() -> None:
    judged = judge(Recorded(WAVES, PAIRS, 2), deaf_to_silence)
    assert judged.equal_error_rate == 0
    assert judged.cosine_same == pytest.approx(np.cos(0.1), abs=1e-6)
    assert judged.cosine_other == pytest.approx(np.cos(0.8), abs=1e-6)
    with pytest.raises(EvaluationError, match="no voice is heard"):
        judge(Recorded([WAVES[0]] * 4, PAIRS, 2), deaf_to_silence)


def test_recordings_of_voices_beside_the_voices() -> None:
    voices = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])}
    held_out = [("a", np.array([0.8, 0.6])), ("b", np.array([0.8, 0.6]))]
    found = voice_cosines(voices, held_out)
    assert found == pytest.approx((0.7, 0.7, 0.5, 2))
    with pytest.raises(EvaluationError, match="nothing to compare"):
        voice_cosines(voices, [])
