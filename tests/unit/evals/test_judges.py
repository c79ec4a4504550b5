import logging

import numpy as np
import pytest

from paluku.errors import EvaluationError
from paluku.evals import recognition, sound
from paluku.evals.judges import Judges, Pair

WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 1_600).astype(np.float32)


class Listener:
    """Hears what the first sample of a wave stands for."""

    def __init__(self, *words: str) -> None:
        self.words, self.heard = words, []

    def romanised(self, wave: np.ndarray) -> str:
        self.heard.append(word := self.words[int(wave[0])])
        return word


def pair(language: str = "te", text: str | None = None, decoded: float = 1.0) -> Pair:
    return Pair(("fake", "clip"), language, text, np.zeros(4), np.full(4, decoded))


def refuses(reference: np.ndarray, decoded: np.ndarray) -> float:
    raise EvaluationError("too short")


def loudness(reference: np.ndarray, decoded: np.ndarray) -> float:
    return float(np.abs(decoded).mean())


def test_numbers_and_reasons_come_in_the_order_of_the_pairs() -> None:
    judges = Judges(metrics={"loudness": loudness, "refused": refuses})
    steps: list[int] = []
    judged = list(judges.judged((pair("en", decoded=n) for n in range(3)), lambda: steps.append(1)))
    assert [one.values for one in judged] == [{"loudness": 0.0}, {"loudness": 1.0}, {"loudness": 2.0}]
    assert [one.reasons for one in judged] == 3 * [{"refused": "too short"}]
    assert len(steps) == 3


def fails(reference: np.ndarray, decoded: np.ndarray) -> float:
    raise ValueError("cannot convert float NaN to integer")


def test_a_judge_that_fails_or_gives_no_number_is_a_reason() -> None:
    metrics = {"failed": fails, "loudness": loudness}
    [judged] = Judges(metrics=metrics).judged([pair("en", decoded=np.nan)])
    assert judged.values == {}
    assert judged.reasons == {
        "failed": "cannot convert float NaN to integer",
        "loudness": "the judge gave nan",
    }


def test_what_is_not_finite_is_not_listened_to() -> None:
    listener = Listener("nenu")
    [judged] = Judges(listener, metrics={}).judged([pair(text="నేను", decoded=np.inf)])
    assert listener.heard == []
    assert judged.values == {}
    assert set(judged.reasons) == {"cer_to_original", "cer_romanised"}


def test_another_process_measures_the_same() -> None:
    pairs = [Pair(("fake", str(n)), "en", None, WAVE, WAVE * 0.5**n) for n in range(3)]
    metrics = {"mel_distance": sound.mel_distance, "si_sdr_db": sound.si_sdr_db}
    here, there = Judges(metrics=metrics), Judges(metrics=metrics, workers=1)
    assert list(there.judged(pairs)) == list(here.judged(pairs))


def test_character_errors_are_against_the_text_and_against_the_original() -> None:
    pytest.importorskip("indic_transliteration")
    listener = Listener("nena", "nana")  # the original is heard with one mistake, the decoded with two
    [judged] = Judges(listener, metrics={}).judged([pair(text="నేను")])
    assert judged.values == {"cer_romanised": 2 / 4, "cer_original": 1 / 4, "cer_to_original": 1 / 4}


def test_without_a_text_only_the_original_is_compared_and_other_languages_are_not_heard() -> None:
    listener = Listener("nenu", "nena")
    untold, english = Judges(listener, metrics={}).judged([pair(), pair("en", text="nenu")])
    assert untold.values == {"cer_to_original": 1 / 4}
    assert english.values == {}


def test_an_original_is_heard_once_for_all_codecs() -> None:
    judges = Judges(listener := Listener("nenu", "nena", "nina"), metrics={})
    list(judges.judged([pair(decoded=1.0)]))
    list(judges.judged([pair(decoded=2.0)]))
    assert listener.heard == ["nenu", "nena", "nina"]


def test_originals_of_one_id_in_two_sources_are_two() -> None:
    judges = Judges(listener := Listener("nenu", "nena"), metrics={})
    other = pair()._replace(key=("another", "clip"), reference=np.ones(4))
    first, second = judges.judged([pair(), other])
    assert listener.heard == ["nenu", "nena", "nena", "nena"]
    assert (first.values, second.values) == ({"cer_to_original": 1 / 4}, {"cer_to_original": 0.0})


def test_an_original_in_which_nothing_is_heard_has_a_reason() -> None:
    [judged] = Judges(Listener("", "nenu"), metrics={}).judged([pair()])
    assert judged.values == {}
    assert "no letters" in judged.reasons["cer_to_original"]


def test_what_is_not_installed_is_said_once_and_not_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sound, "NEEDS", {"pesq": ("no_such_judge",)})
    monkeypatch.setattr(recognition, "why_absent", lambda: "no ears")
    monkeypatch.setattr(logging.getLogger("paluku"), "propagate", True)
    judges = Judges.here()
    assert [reason.split(";")[0] for reason in judges.absent] == [
        "pesq is not judged: no_such_judge is not installed",
        "no ears",
    ]
    assert [record.getMessage() for record in caplog.records] == judges.absent
    metrics = {"pesq": refuses, "loudness": loudness}
    [judged] = Judges(metrics=metrics).judged([pair()])
    assert judged.values == {"loudness": 1.0}
    assert judged.reasons == {}
