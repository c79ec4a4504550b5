import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.voices.alignment import tokens
from paluku.corpus.voices.labels import labels, phones_of, syllables_of
from paluku.errors import AudioError

WORDS = st.lists(st.text(st.sampled_from("కఖమనరసఅఆఇాిుే్ంః"), min_size=1, max_size=8), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("అమ్మ", "a m m a"),
        ("నమస్కారం", "n a m a s k aa r a n:"),
        ("తెలుగు", "t e l u g u"),
        ("డబ్బు", "d: a b b u"),
        ("దుఃఖం", "d u h a kh a n:"),
        ("ఊఁ", "uu n:"),
        ("ఐదు", "ai d u"),
        ("క్\u200cష", "k shh a"),
        ("ఋషి", "rx shh i"),
    ],
)
def test_words_are_spelt_as_they_sound(word: str, phones: str) -> None:
    assert phones_of(word) == phones.split()


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        ("అమ్మ", ["a", "m m a"]),
        ("నమస్కారం", ["n a", "m a", "s k aa", "r a n:"]),
        ("సంత", ["s a n:", "t a"]),
        ("కాల్", ["k aa l"]),
    ],
)
def test_syllables(word: str, syllables: list[str]) -> None:
    assert syllables_of(phones_of(word)) == [tuple(syllable.split()) for syllable in syllables]


def test_a_phone_in_its_context() -> None:
    lines = labels("అమ్మ, రా!").lines
    assert len(lines) == 1 + 4 + 1 + 2 + 1  # pauses around and between the phrases
    assert lines[0].startswith("0^0-te0+a=m||accented=0|")
    assert lines[1] == (
        "0^te0-a+m=m||accented=1|next_is_pause=0|next_tobi_endtone=H-Lpc|onsetcoda=coda|pos_in_syl=0|"
        "prev_accent=0|prev_syl_break=0|stressed=1|syl_break=0|tobi_accent=L+Hst||"
    )
    assert lines[4] == (
        "m^m-a+te0=r||accented=0|next_is_pause=1|next_tobi_endtone=0|onsetcoda=coda|pos_in_syl=2|"
        "prev_accent=L+H*|prev_syl_break=0|stressed=0|syl_break=4|tobi_accent=0||"
    )


def test_the_last_word_of_a_text_falls() -> None:
    lines = labels("అది మంచిది.").lines
    (accent,) = {line.split("tobi_accent=")[1].rstrip("|") for line in lines if "-m+" in line}
    assert accent == "!Hst"


@given(WORDS)
def test_every_word_has_its_lines_in_order(words: list[str]) -> None:
    text = ", ".join(words)
    try:
        asked = labels(text)
    except AudioError:
        return  # nothing but signs without sound
    assert len(asked.words) == len(tokens(text))
    flat = [edge for span in asked.words for edge in span]
    assert flat == sorted(flat)
    assert all(line.count("||") == 2 for line in asked.lines)


@pytest.mark.parametrize("text", ["అమ్మ \u200c రా", "\u200d అమ్మ రా", "అమ్మ రా \u200c\u200d"])
def test_joiners_that_stand_alone_change_nothing(text: str) -> None:
    assert labels(text) == labels("అమ్మ రా")


@pytest.mark.parametrize("text", ["నాకు 25 కావాలి", "౨౫ మంది", "TV చూడు", "హలో world", "అవును25"])
def test_what_the_voice_has_no_sound_for_is_refused(text: str) -> None:
    with pytest.raises(AudioError, match=r"cannot say .*; write it in Telugu letters"):
        labels(text)
