import json
from pathlib import Path

import numpy as np
import pytest

from paluku.errors import EvaluationError
from paluku.evals.s2s_cases import case_of, choose
from tests.fakes.folders import write_folder
from tests.fakes.planted import USER, planted

PLAIN = USER[:3]


def folder_of(folder: Path, *rows: dict) -> str:
    write_folder(folder, "dialogues", rows)
    return str(folder)


def test_a_case_has_each_side_and_what_is_meant() -> None:
    row = planted()
    case = case_of(row)
    assert [turn.intent for turn in case.turns] == ["who.name", "", "weather.rain", "facts.sun"]
    assert [turn.kind for turn in case.asked] == ["turn", "turn", "interruption"]
    assert [turn.kind for turn in case.replies] == ["turn", "cut", "turn"]
    assert np.abs(case.user[: round(0.39 * case.rate_hz)]).max() == 0
    assert np.abs(case.user[round(0.5 * case.rate_hz) : 16_000]).min() > 0


def test_interruptions_and_voices_take_turns(tmp_path: Path) -> None:
    rows = [
        planted(number, user=USER if number < 4 else PLAIN, voice="ravi" if number % 2 else "priya")
        for number in range(12)
    ]
    where = folder_of(tmp_path, *rows)
    chosen = choose(where, 4, "test", seed=0)
    kinds = [any(turn.kind == "interruption" for turn in case.turns) for case in chosen.cases]
    assert kinds == [True, False, True, False]
    assert [case.voice for case in chosen.cases] == ["priya", "priya", "ravi", "ravi"]
    again = choose(where, 4, "test", seed=0)
    assert [case.id for case in again.cases] == [case.id for case in chosen.cases]
    judged = {case.id for case in chosen.cases}
    assert not any(case.id in judged for case in chosen.recordings["ravi"])
    assert [len(chosen.recordings[voice]) for voice in ("arjun", "ravi")] == [0, 4]


def test_echoes_of_another_reply_are_left_out(tmp_path: Path) -> None:
    echo = json.dumps({"echo": {"level_db": -20.0, "delay_s": 0.1}})
    where = folder_of(tmp_path, planted(0, augmentation=echo), planted(1))
    chosen = choose(where, 9, "test", seed=0)
    assert [case.id for case in chosen.cases] == [planted(1)["id"]]
    assert chosen.left_out == {"with an echo": 1}


def test_what_cannot_be_judged_by_is_said(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="holds no dialogues"):
        choose(str(tmp_path), 1, "test", seed=0)
    where = folder_of(tmp_path / "some", planted(0, intents=[], turns=[]), planted(1, split="dev"))
    with pytest.raises(EvaluationError, match="1 without a question"):
        choose(where, 1, "test", seed=0)
