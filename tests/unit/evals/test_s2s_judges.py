import dataclasses

import numpy as np
import pytest

from paluku.evals import recognition
from paluku.evals.s2s_answers import Answers
from paluku.evals.s2s_cases import Case, case_of
from paluku.evals.s2s_drive import Parts, recorded
from paluku.evals.s2s_entropy import Entropy
from paluku.evals.s2s_judges import SoundJudges, Sounds
from paluku.evals.s2s_sound import Change
from paluku.evals.s2s_summary import Judged, of_entropies, of_voices, styles
from paluku.evals.s2s_turns import Ear, Held, listen
from paluku.tokens.text import default_tokenizer
from paluku.voices import VOICES, StyleName
from tests.fakes.codec import FakeCodec
from tests.fakes.planted import INTENTS, planted
from tests.fakes.s2s import tiny_s2s

PARTS = Parts(FakeCodec(), tiny_s2s(), default_tokenizer())
EAR = Ear(PARTS.tokenizer, Answers(INTENTS), 25.0, PARTS.lag_ms)


def embed(wave: np.ndarray) -> np.ndarray:
    """A speaker is how loud he is: an angle."""
    angle = 10 * float(np.sqrt(np.square(wave, dtype=np.float64).mean()))
    return np.array([np.cos(angle), np.sin(angle)])


def voiced(gain: float) -> Case:
    case = case_of(planted(style="neutral"))
    return dataclasses.replace(case, agent=case.agent * np.float32(gain))


RECORDINGS = {voice: [voiced(gain)] for voice, gain in zip(VOICES, (0.25, 0.5, 1.0, 2.0), strict=True)}


def held(style: StyleName = "neutral") -> Held:
    case = voiced(1.0)
    return listen(case, "priya", style, recorded(PARTS, case), EAR)


class Hears:
    """Writes down what it is told to have heard."""

    def __init__(self, text: str) -> None:
        self.text, self.lengths = text, []

    def romanised(self, wave: np.ndarray) -> str:
        self.lengths.append(len(wave))
        return self.text


def test_the_voice_that_was_asked_for_is_the_nearest() -> None:
    likeness = SoundJudges(RECORDINGS, embed=embed).judge(held()).likeness
    assert likeness is not None
    assert likeness.own == pytest.approx(1, abs=1e-3)
    assert likeness.is_nearest
    assert not likeness._replace(voice="ravi").is_nearest


def test_the_codecs_share_in_it_is_told() -> None:
    duller = {"priya": [voiced(0.25)]}
    likeness = SoundJudges(RECORDINGS, embed=embed, coded=duller).judge(held()).likeness
    assert likeness is not None
    assert likeness.own_coded == pytest.approx(likeness.cosines["arjun"])


def test_without_recordings_of_each_voice_none_is_judged() -> None:
    judges = SoundJudges({**RECORDINGS, "lakshmi": []}, embed=embed)
    assert judges.judge(held()).likeness is None
    assert any("no recording of lakshmi" in reason for reason in judges.absent)


@pytest.mark.skipif(recognition.why_absent() is not None, reason="the recogniser is not installed")
def test_replies_to_their_end_are_recognised() -> None:
    found = held()
    hears = Hears(recognition.romanise(found.exchanges[0].said))
    errors = SoundJudges(RECORDINGS, hears).judge(found).errors
    assert errors[0] == 0
    assert errors[1] is None  # cut
    assert errors[2] is not None
    assert errors[2] > 0.3
    assert len(hears.lengths) == 2


def test_without_a_recogniser_there_is_no_error() -> None:
    assert SoundJudges(RECORDINGS).judge(held()).errors == [None, None, None]


def test_what_the_table_asks_for_is_compared_with_what_is_heard() -> None:
    # Excited: rate 1.18, 3.5 semitones, range 1.5, 4 dB.
    changes = [Change(1.2, 3.0, 1.1, 4.0), Change(1.1, 2.5, 1.2, -4.0), Change(1.1, 2.0, 0.9, 5.0)]
    one = Judged(held("excited"), Sounds([], [None, *changes], None))
    [row] = styles([one])
    assert (row.style, row.replies) == ("excited", 3)
    assert row.measured == Change(1.1, 2.5, 1.1, 4.0)
    assert row.agrees == Change(1.0, 1.0, 0.0, 1.0)
    [neutral] = styles([Judged(held(), Sounds([], list(changes), None))])
    assert np.isnan(neutral.agrees).all()


def test_numbers_by_voice() -> None:
    sounds = SoundJudges(RECORDINGS, embed=embed).judge(held())
    found = of_voices([Judged(held(), sounds)] * 2)
    assert list(found) == ["priya"]
    assert (found["priya"]["n"], found["priya"]["top1"]) == (2, 1)
    assert found["priya"]["priya"] == pytest.approx(1, abs=1e-3)


def test_the_greater_entropy_counts_and_the_first_codebooks_perplexity() -> None:
    found = of_entropies(
        [Entropy("text", 0.5, 10), Entropy("codes_0", np.log(8), 10), Entropy("codes_1", 3, 9)]
    )
    assert found["perplexity"] == pytest.approx(8)
    assert found["cross_entropy"] == pytest.approx(np.log(8))
    assert found["cross_entropy_codes_1"] == 3
