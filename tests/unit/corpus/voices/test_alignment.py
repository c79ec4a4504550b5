import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.voices.alignment import estimate, from_starts, tokens, weight

RATE_HZ = 16_000
TEXTS = st.text(st.sampled_from("కఖమ్ాినఅఆ,.?–\"' \n12a\u200c"), max_size=40)


def tones(*spans_s: tuple[float, float], length_s: float) -> np.ndarray:
    wave = np.zeros(round(length_s * RATE_HZ), np.float32)
    for start_s, end_s in spans_s:
        wave[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)] = 0.1
    return wave


@given(TEXTS)
def test_words_joined_by_blanks_give_the_text_back(text: str) -> None:
    words = tokens(text)
    if words:
        assert " ".join(word.text for word in words) == " ".join(text.split())
    for word in words:
        assert text[word.start : word.end].split() == word.text.split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("అవును, సరే.", ["అవును,", "సరే."]),
        ("అవును – సరే", ["అవును –", "సరే"]),
        ("– అవును", ["– అవును"]),
        (" ... !", []),
        ("25 మంది", ["25", "మంది"]),
    ],
)
def test_worked_examples(text: str, words: list[str]) -> None:
    assert [word.text for word in tokens(text)] == words


def test_longer_words_weigh_more() -> None:
    # క is k + a; కా has a long vowel; క్ no vowel; త్తు two consonants and a vowel.
    assert weight("క") == 2
    assert weight("కా") == 3
    assert weight("క్") == 1
    assert weight("కత్తు") == 2 + 1 + 1 + 1
    assert weight("నమస్కారం,") == weight("నమస్కారం")


def test_a_phrase_lies_between_its_silences() -> None:
    wave = tones((0.2, 1.0), (1.4, 3.0), length_s=3.3)
    words = estimate("కక, కక కక.", wave, RATE_HZ)
    spans = [(round(w.start_s, 2), round(w.end_s, 2)) for w in words]
    assert spans == [(0.2, 1.0), (1.4, 2.2), (2.2, 3.0)]


def test_the_longest_silences_are_the_pauses() -> None:
    wave = tones((0, 0.5), (0.6, 1.0), (1.4, 2.0), length_s=2.0)
    assert [round(w.start_s, 2) for w in estimate("కకకక. క", wave, RATE_HZ)] == [0.0, 1.4]


def test_without_silences_words_share_the_sound_and_a_nominal_pause() -> None:
    words = estimate("కక, కక", tones((0.5, 1.6), length_s=2.0), RATE_HZ)
    # Weights 4, pause 3, 4 over 1.1 s.
    assert [(round(w.start_s, 2), round(w.end_s, 2)) for w in words] == [(0.5, 0.9), (1.2, 1.6)]


@given(TEXTS)
def test_an_estimate_never_leaves_the_sound_nor_overlaps(text: str) -> None:
    words = estimate(text, tones((0.3, 0.7), (0.9, 1.2), length_s=1.5), RATE_HZ)
    edges = [time_s for word in words for time_s in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert not edges or (edges[0] >= 0.3 and edges[-1] <= 1.2 + 1e-9)


def test_silence_is_no_error() -> None:
    assert [word.end_s for word in estimate("క క", np.zeros(100, np.float32), RATE_HZ)] == [0, 0]


def test_words_begin_where_the_engine_says_and_end_with_their_sound() -> None:
    wave = tones((0.0, 0.4), (0.7, 1.5), length_s=1.6)
    words = from_starts(tokens("క క క"), [0.0, 0.5, 1.0], wave, RATE_HZ)
    assert [(round(w.start_s, 2), round(w.end_s, 2)) for w in words] == [(0.0, 0.4), (0.7, 1.0), (1.0, 1.5)]


def test_without_words_nothing_is_placed() -> None:
    assert from_starts([], [], tones((0.0, 0.4), length_s=0.5), RATE_HZ) == ()


def test_a_word_that_the_engine_did_not_tell_shares_the_time_of_the_one_before() -> None:
    words = from_starts(tokens("కక క క"), [0.0, None, 0.9], tones((0.0, 1.2), length_s=1.2), RATE_HZ)
    assert [(round(w.start_s, 2), round(w.end_s, 2)) for w in words] == [(0.0, 0.6), (0.6, 0.9), (0.9, 1.2)]
