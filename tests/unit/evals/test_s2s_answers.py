import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.turns import Intent, Reply, read_intents
from paluku.evals.s2s_answers import LEAST_LETTERS, Answers, letters
from paluku.tokens.distance import edit_distance
from tests.fakes.planted import INTENTS, REPLIES

ANSWERS = Answers(INTENTS)
WORDS = st.text("abcd", max_size=12)


def intent(name: str, *replies: str) -> Intent:
    return Intent(name, "small", ("ask",), (), tuple(Reply(text, "neutral") for text in replies), "CC0-1.0")


def test_spaces_marks_of_punctuation_and_joiners_are_not_compared() -> None:
    assert letters("నా  పేరు, పలుకు!") == letters("నాపేరు పలుకు") == "నాపేరుపలుకు"
    assert letters("ఫోన్‌లోనే") == letters("ఫోన్లోనే")
    assert letters("Ray 2.60") == "ray260"


@given(said=WORDS, answers=st.lists(WORDS.filter(bool), min_size=1, max_size=4))
def test_all_answers_at_once_are_as_far_as_one_by_one(said: str, answers: list[str]) -> None:
    errors = Answers([intent("a.b", *answers)]).errors(said)
    expected = [edit_distance(said, answer) / len(answer) for answer in answers]
    np.testing.assert_allclose(errors, expected)


@given(said=WORDS.filter(bool), answer=WORDS.filter(bool))
def test_a_cut_reply_is_as_far_as_from_the_best_beginning(said: str, answer: str) -> None:
    [error] = Answers([intent("a.b", answer)]).errors(said, is_cut=True)
    beginnings = (answer[:end] for end in range(len(answer) + 1))
    assert error == pytest.approx(min(edit_distance(said, beginning) for beginning in beginnings) / len(said))


def test_the_intents_own_answer_fits_and_anothers_does_not() -> None:
    fit = ANSWERS.judge(REPLIES[0], "who.name")
    assert fit is not None
    assert fit.is_right
    assert (fit.intent, fit.nearest, fit.error) == ("who.name", REPLIES[0], 0.0)
    other = ANSWERS.judge(REPLIES[0], "facts.sun")
    assert other is not None
    assert not other.is_right
    assert other.intent == "who.name"


def test_a_slip_is_allowed_and_babble_is_not() -> None:
    slip = ANSWERS.judge(REPLIES[2].replace("తూర్పున", "తూరుపున"), "facts.sun")
    assert slip is not None
    assert slip.is_right
    assert 0 < slip.error < 0.2
    for babble in ("", "సూర్యుడు సూర్యుడు సూర్యుడు సూర్యుడు"):
        fit = ANSWERS.judge(babble, "facts.sun")
        assert fit is not None
        assert not fit.is_right


def test_what_two_intents_answer_alike_fits_both() -> None:
    answers = Answers([intent("one.a", "తప్పకుండా చేస్తాను"), intent("two.b", "తప్పకుండా చేస్తాను")])
    fits = [answers.judge("తప్పకుండా చేస్తాను", name) for name in ("one.a", "two.b")]
    assert [fit is not None and fit.is_right for fit in fits] == [True, True]


def test_a_beginning_fits_only_where_the_reply_was_cut() -> None:
    beginning = REPLIES[1][: len(REPLIES[1]) // 2]
    whole, cut = (ANSWERS.judge(beginning, "weather.rain", is_cut=is_cut) for is_cut in (False, True))
    assert whole is not None
    assert cut is not None
    assert (whole.is_right, cut.is_right) == (False, True)
    assert ANSWERS.judge(REPLIES[1][: LEAST_LETTERS - 2], "weather.rain", is_cut=True) is None


def test_of_an_unknown_intent_nothing_is_said() -> None:
    assert ANSWERS.judge(REPLIES[0], "") is None
    assert not ANSWERS.is_whole(REPLIES[0], "no.such")


def test_a_reply_is_whole_with_its_last_word() -> None:
    assert ANSWERS.is_whole(REPLIES[1], "weather.rain")
    assert not ANSWERS.is_whole(" ".join(REPLIES[1].split()[:-1]), "weather.rain")


def test_every_shipped_answer_fits_its_own_intent() -> None:
    intents = read_intents()
    answers = Answers(intents)
    for each in intents[::10]:
        for reply in each.replies:
            fit = answers.judge(reply.text, each.name)
            assert fit is not None, each.name
            assert fit.is_right, reply.text
