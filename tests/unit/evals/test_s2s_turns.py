"""The planted conversation through the path that a model's goes: what is known of it is what is found."""

from typing import Any

import numpy as np
import pytest

from paluku.evals import s2s_summary
from paluku.evals.s2s_answers import Answers
from paluku.evals.s2s_cases import case_of
from paluku.evals.s2s_drive import Parts, recorded
from paluku.evals.s2s_judges import SoundJudges
from paluku.evals.s2s_summary import Judged
from paluku.evals.s2s_turns import Ear, Held, edges, listen
from paluku.tokens.text import default_tokenizer
from tests.fakes.codec import FakeCodec
from tests.fakes.planted import AGENT, ASKS, INTENTS, REPLIES, SAID_BEFORE_CUT, USER, planted
from tests.fakes.s2s import tiny_s2s

PARTS = Parts(FakeCodec(), tiny_s2s(), default_tokenizer())
EAR = Ear(PARTS.tokenizer, Answers(INTENTS), 25.0, PARTS.lag_ms)


def held(**columns: Any) -> Held:
    case = case_of(planted(**columns))
    return listen(case, case.voice, case.style, recorded(PARTS, case, stop_s=None), EAR)


def numbers(found: Held) -> dict[str, s2s_summary.Number]:
    return s2s_summary.numbers([Judged(found, SoundJudges({}).judge(found))])


def test_a_perfect_speaker_is_perfect() -> None:
    found = held()
    assert [each.said for each in found.exchanges] == [REPLIES[0], SAID_BEFORE_CUT, REPLIES[2]]
    assert [each.is_right for each in found.exchanges] == [True, True, True]
    assert [each.is_cut for each in found.exchanges] == [False, True, False]
    assert [each.heard for each in found.exchanges] == [f"{ASKS[0]} ఊఁ", *ASKS[1:]]
    times = [(each.start_s, each.end_s) for each in found.exchanges]
    np.testing.assert_allclose(times, [turn[1:3] for turn in AGENT], atol=0.011)
    said = numbers(found)
    assert said["reply_accuracy"] == said["answered"] == said["backchannel_hold_rate"] == 1
    assert said["interruption_stop_rate"] == said["reply_accuracy_after_right"] == 1
    assert said["user_cer"] == 0
    assert (said["interruptions"], said["backchannels"]) == (1, 1)


def test_gaps_are_the_listeners() -> None:
    # A frame to fill and one of acoustic delay; the fake codec has no delay of its own.
    assert PARTS.lag_ms == 80
    gaps = [each.gap_ms for each in held().exchanges]
    assert gaps == pytest.approx([280, 200, 280], abs=11)


def test_the_answer_to_another_question_is_wrong() -> None:
    found = numbers(held(intents=["facts.sun", "weather.rain", "facts.sun"]))
    assert found["reply_accuracy"] == pytest.approx(2 / 3)
    assert found["reply_accuracy_first"] == 0
    assert found["reply_accuracy_after_right"] == 1  # the third alone follows a right one


@pytest.mark.parametrize(("end_s", "stop_ms"), [(6.92, 120), (7.2, 400)])
def test_a_reply_that_stops_late_is_told(end_s: float, stop_ms: float) -> None:
    agent = (AGENT[0], (SAID_BEFORE_CUT, 5.72, end_s, "cut"), AGENT[2])
    found = held(agent=agent)
    [stopped] = [each for each in found.interjections if each.kind == "interruption"]
    assert stopped.stop_ms == pytest.approx(stop_ms, abs=11)
    assert numbers(found)["interruption_stop_rate_400"] == 1
    assert numbers(found)["interruption_stop_rate"] == (stop_ms <= 120)


def test_a_reply_that_never_stops_did_not() -> None:
    agent = (AGENT[0], (REPLIES[1], 5.72, 10.0, "turn"))
    found = numbers(held(agent=agent))
    assert found["interruption_stop_rate"] == found["interruption_stop_rate_400"] == 0
    assert found["interruption_stop_ms_median"] is None


def test_a_reply_that_had_been_said_is_not_interrupted() -> None:
    agent = (AGENT[0], (REPLIES[1], 5.72, 6.78, "turn"), AGENT[2])
    assert numbers(held(agent=agent))["interruptions"] == 0


def test_a_wrong_reply_that_had_just_ended_did_not_stop_for_anybody() -> None:
    agent = (AGENT[0], (REPLIES[2][:12], 5.72, 6.5, "turn"), AGENT[2])
    assert numbers(held(agent=agent))["interruptions"] == 0


def test_a_reply_that_hardly_began_before_the_next_question_is_wrong() -> None:
    """Unless the user interrupted it: then nothing can be said of it."""
    user = (USER[0], USER[2], (ASKS[2], 6.8, 8.0, "turn"))
    agent = (AGENT[0], ("గొడు", 6.3, 6.9, "cut"), AGENT[2])
    patient, hasty = (held(user=users, agent=agent).exchanges[1] for users in (user, USER))
    assert patient.is_cut
    assert hasty.is_cut
    assert not patient.is_right
    assert (patient.fit is None, hasty.fit is None) == (False, True)


def test_a_reply_that_yields_to_a_backchannel_did_not_hold() -> None:
    words = " ".join(REPLIES[0].split()[:2])
    found = held(agent=((words, 1.8, 2.8, "cut"), *AGENT[1:]))
    assert numbers(found)["backchannel_hold_rate"] == 0
    ended = held(agent=((REPLIES[0], 1.8, 2.9, "turn"), *AGENT[1:]))
    assert numbers(ended)["backchannel_hold_rate"] in (1, None)  # said to its end: nothing was left to hold


def test_silence_answers_nothing() -> None:
    found = held(agent=())
    assert [each.said for each in found.exchanges] == ["", "", ""]
    said = numbers(found)
    assert (said["answered"], said["reply_accuracy"], said["gap_ms_median"]) == (0, 0, None)
    assert (said["interruptions"], said["interruption_stop_rate"]) == (0, None)


def test_a_late_reply_is_still_the_first_questions() -> None:
    late = ((REPLIES[0], 3.0, 5.2, "turn"), ("గొడుగు", 6.2, 6.6, "turn"), AGENT[2])
    assert held(agent=late).exchanges[0].said == REPLIES[0]


def test_edges_lie_between_a_reply_and_the_next() -> None:
    turns = case_of(planted()).asked
    active = np.zeros(1040, bool)
    for _, start_s, end_s, _ in AGENT:
        active[round(100 * start_s) : round(100 * end_s)] = True
    first, second, third, end = edges(active, turns, 100)
    assert first < 180
    assert 400 < second < 572
    assert 688 < third < 820
    assert end == 1040


def test_users_that_are_misheard_are_counted_by_character() -> None:
    found = held()
    half = found._replace(understood=USER[0][0])
    assert s2s_summary.user_error([found]) == 0
    lost = s2s_summary.user_error([half])
    assert lost is not None
    assert 0.6 < lost < 0.9
