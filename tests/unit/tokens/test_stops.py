"""A reply that was talked into ends soon after, in sound and in text."""

import numpy as np
import pytest

from paluku.tokens.stops import Stop, silenced, sooner


def turn(role: str, kind: str, start_s: float, end_s: float, text: str) -> dict:
    words = text.split()
    each = (end_s - start_s) / len(words)
    spoken = [
        {"text": word, "start_s": start_s + each * i, "end_s": start_s + each * (i + 1)}
        for i, word in enumerate(words)
    ]
    return {"role": role, "kind": kind, "start_s": start_s, "end_s": end_s, "text": text, "words": spoken}


ASK = turn("user", "turn", 0.0, 1.0, "what is it")
CUT = turn("agent", "cut", 1.2, 3.2, "one two, three four")
INTO = turn("user", "interruption", 2.5, 3.5, "no wait")


def test_a_cut_reply_ends_after_the_interruption_begins() -> None:
    turns, stops = sooner([ASK, CUT, INTO], 0.08)
    assert stops == [Stop(pytest.approx(2.58), 3.2)]
    assert [turns[0], turns[2]] == [ASK, INTO]
    assert turns[1]["end_s"] == pytest.approx(2.58)
    assert turns[1]["text"] == "one two, three"
    assert [word["text"] for word in turns[1]["words"]] == ["one", "two,", "three"]
    assert turns[1]["words"][-1]["end_s"] == pytest.approx(2.58)


@pytest.mark.parametrize("words", [None, []])
def test_without_timed_words_the_text_is_cut_as_the_time_is(words: list | None) -> None:
    """Of 2 s 1.38 are left: of four words three."""
    turns, _ = sooner([ASK, CUT | {"words": words}, INTO], 0.08)
    assert turns[1]["text"] == "one two, three"
    assert not turns[1]["words"]


def test_what_was_not_cut_stays() -> None:
    nod = turn("user", "backchannel", 2.0, 2.2, "yes")
    others = [ASK, CUT, nod, turn("user", "interruption", 3.3, 3.9, "late")]
    assert sooner(others, 0.08) == (others, [])


def test_a_reply_that_had_stopped_sooner_stays() -> None:
    assert sooner([CUT, turn("user", "interruption", 3.15, 4.0, "no")], 0.08)[1] == []


def test_the_sound_fades_and_is_silent_until_the_reply_had_ended() -> None:
    wave = silenced(np.ones(100, np.float32), [Stop(0.5, 0.7)], rate_hz=100)
    assert wave[:48].tolist() == [1.0] * 48
    assert wave[48:50].tolist() == [1.0, 0.0]
    assert wave[50:70].tolist() == [0.0] * 20
    assert wave[70:].tolist() == [1.0] * 30
