import math

import pytest

from paluku.errors import ConfigError
from paluku.evals.gates import GATES, KEYS, Gate, GateSettings, Measured, Number, failed, judge, with_settings

HIGHER = Gate(key="accuracy", title="replies that fit", form="{:.1%}", margin=0.05, floor=0.5)
LOWER = Gate(
    key="tick", title="tick", form="{:.0f}", is_higher_better=False, margin=0.25, is_share=True, floor=40.0
)


def passes(gate: Gate, candidate: Number, champion: Number) -> bool:
    (verdict,) = judge(Measured({gate.key: candidate}), Measured({gate.key: champion}), [gate])
    return verdict.has_passed


@pytest.mark.parametrize(
    ("gate", "candidate", "champion", "passed"),
    [
        (HIGHER, 0.9, 0.8, True),
        (HIGHER, 0.75, 0.8, True),  # exactly at the margin
        (HIGHER, 0.74, 0.8, False),
        (HIGHER, 0.1, 0.05, True),  # better than a poor champion: floors are for a first model
        (LOWER, 25.0, 20.0, True),  # a quarter more is let through
        (LOWER, 25.1, 20.0, False),
        (LOWER, 10.0, 20.0, True),
    ],
)
def test_a_candidate_may_be_worse_by_the_margin(
    gate: Gate, candidate: float, champion: float, *, passed: bool
) -> None:
    assert passes(gate, candidate, champion) is passed


@pytest.mark.parametrize("gate", GATES, ids=KEYS)
def test_whoever_is_as_good_as_the_champion_passes_and_better_is_never_refused(gate: Gate) -> None:
    better = 1.1 if gate.is_higher_better else 0.9
    for value in (0.01, 0.5, 3.0, 100.0):
        assert passes(gate, value, value)
        assert passes(gate, value * better, value)


def test_a_first_model_is_asked_for_the_floors_alone() -> None:
    verdicts = judge(Measured({"accuracy": 0.5, "tick": 40.1}), None, [HIGHER, LOWER])
    assert [verdict.has_passed for verdict in verdicts] == [True, False]
    assert failed(verdicts) == ["tick: candidate 40, no champion; a first model has 40 at most"]


def test_a_gate_that_fails_names_itself_and_both_values() -> None:
    verdicts = judge(Measured({"accuracy": 0.6}), Measured({"accuracy": 0.8}), [HIGHER])
    assert failed(verdicts) == ["replies that fit: candidate 60.0%, champion 80.0%; 75.0% is asked at least"]


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_what_cannot_be_computed_fails_with_the_reason(nothing: Number) -> None:
    absent = Measured({"accuracy": nothing}, {"accuracy": "the recogniser is not installed"})
    known = Measured({"accuracy": 0.8})
    for candidate, champion, who in ((absent, known, "candidate"), (known, absent, "champion")):
        (verdict,) = judge(candidate, champion, [HIGHER])
        assert not verdict.has_passed
        assert f"the {who} has no number: the recogniser is not installed" in verdict.said
    (first,) = judge(Measured({}), None, [HIGHER])
    assert not first.has_passed
    assert "there was nothing to measure" in first.said


def test_settings_replace_what_they_name() -> None:
    changed = with_settings({"accuracy": GateSettings(margin=0.5)}, [HIGHER, LOWER])
    assert (changed[0].margin, changed[0].floor, changed[1]) == (0.5, 0.5, LOWER)
    with pytest.raises(ConfigError, match="there is no gate acuracy; there are accuracy, tick"):
        with_settings({"acuracy": GateSettings()}, [HIGHER, LOWER])
