import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.dialogues.takes import Take, cut_at, pause_places, take, with_pause, within, word_spans
from paluku.corpus.voices.port import Word
from paluku.errors import AudioError
from tests.fakes.synthesiser import BETWEEN_WORDS_S, RATE_HZ, S_PER_LETTER, FakeCast

WINDOW_S = 0.01
TEXT = "ab, cdef gh"


def said(text: str = TEXT, speed: float = 1.0) -> Take:
    return take(FakeCast(), text, "one", "neutral", RATE_HZ, speed)


def loud(wave: np.ndarray) -> bool:
    return bool(np.abs(wave).max() > 0.1)


def test_a_take_is_trimmed_to_its_speech_and_its_words_stand_where_they_sound() -> None:
    ab, cdef, gh = (spoken := said()).words
    assert spoken.start / RATE_HZ == pytest.approx(0.02, abs=WINDOW_S)
    assert ab.end_s - ab.start_s == pytest.approx(3 * S_PER_LETTER, abs=WINDOW_S)
    assert cdef.start_s - ab.end_s == pytest.approx(BETWEEN_WORDS_S, abs=WINDOW_S)
    assert gh.end_s == pytest.approx(spoken.end / RATE_HZ, abs=WINDOW_S)
    assert not loud(spoken.wave[round(ab.end_s * RATE_HZ) + 16 : round(cdef.start_s * RATE_HZ) - 16])
    assert loud(spoken.wave[round(cdef.start_s * RATE_HZ) : round(cdef.end_s * RATE_HZ)])


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_speed_shortens_the_wave_and_the_words_alike(speed: float) -> None:
    plain, changed = said(), said(speed=speed)
    assert (changed.end - changed.start) * speed == pytest.approx(plain.end - plain.start, rel=0.03)
    for word, other in zip(plain.words, changed.words, strict=True):
        assert (other.end_s - other.start_s) * speed == pytest.approx(word.end_s - word.start_s, abs=0.03)


def test_nothing_said_is_refused() -> None:
    with pytest.raises(AudioError, match="says nothing"):
        said("")


@pytest.mark.parametrize(
    ("text", "places"), [(TEXT, [0]), ("a b c", [0, 1]), ("a", []), ("a b. c, d", [1, 2])]
)
def test_pauses_are_made_at_punctuation_or_else_between_words(text: str, places: list[int]) -> None:
    assert pause_places(said(text)) == places


@pytest.mark.parametrize("after", [0, 1])
def test_a_pause_moves_what_follows_and_nothing_else(after: int) -> None:
    plain, pause = said(), 8000
    paused = with_pause(plain, after, pause, RATE_HZ)
    assert len(paused.wave) == len(plain.wave) + pause
    assert paused.end == plain.end + pause
    assert paused.words[: after + 1] == plain.words[: after + 1]
    for word, other in zip(paused.words[after + 1 :], plain.words[after + 1 :], strict=True):
        assert word.start_s == pytest.approx(other.start_s + pause / RATE_HZ)
        assert word.end_s == pytest.approx(other.end_s + pause / RATE_HZ)
    first, last = paused.words[after].end_s * RATE_HZ, paused.words[after + 1].start_s * RATE_HZ
    assert not loud(paused.wave[round(first) + 16 : round(last) - 16])
    assert last - first >= pause
    assert first <= paused.calm - pause
    assert paused.calm <= last


@given(st.integers(100, 20_000))
def test_a_cut_take_is_silent_from_there_and_has_only_what_was_spoken(silent: int) -> None:
    plain = said()
    silent = min(silent, len(plain.wave))
    fade = 480
    cut = cut_at(plain, silent, fade, RATE_HZ)
    assert len(cut.wave) == silent
    assert cut.wave[-1] == 0
    untouched = max(silent - fade, 0)
    np.testing.assert_array_equal(cut.wave[:untouched], plain.wave[:untouched])
    assert TEXT.startswith(cut.text)
    assert [w.text for w in cut.words] == TEXT.split()[: len(cut.words)]
    assert all(word.end_s <= silent / RATE_HZ for word in cut.words)
    assert cut.text.split() == [w.text for w in cut.words]


def test_a_word_that_was_mostly_spoken_stays() -> None:
    plain = said()
    second = plain.words[1]
    middle = round((second.start_s + second.end_s) / 2 * RATE_HZ)
    assert cut_at(plain, middle + 600, 480, RATE_HZ).text == "ab, cdef"
    assert cut_at(plain, middle - 100, 480, RATE_HZ).text == "ab,"


@given(st.lists(st.tuples(st.floats(-1, 3), st.floats(-1, 3)), max_size=5))
def test_words_are_put_in_order_and_inside(bounds: list[tuple[float, float]]) -> None:
    placed = within([Word("w", start, end) for start, end in bounds], 0.5, 2.0)
    edges = [0.5, *(edge for word in placed for edge in (word.start_s, word.end_s)), 2.0]
    assert edges == sorted(edges)


def test_words_are_found_in_the_text_one_after_another() -> None:
    assert word_spans("a b a.", ["a", "b", "a"]) == [(0, 1), (2, 3), (4, 5)]
    assert word_spans("a b", ["b", "a"]) is None
