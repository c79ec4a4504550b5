"""A language by data alone: Malayalam as its shipped configuration has it, and the laws of any."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.config import load
from paluku.corpus.config import CorpusConfig
from paluku.corpus.preparation.prepare import TextSettings, spoken_text
from paluku.corpus.spelling import Spelling, spelled_out
from paluku.errors import ConfigError

CONFIG = Path(__file__).parents[3] / "jobs" / "configs" / "build_corpus.malayalam.yaml"
GIVEN = load(CorpusConfig, CONFIG, ["recordings=/speech", "out=/out"])
MALAYALAM = GIVEN.preparation.text.languages["ml"]

EXAMPLES = [
    # The chillu of old keyboards, at a word's end and within it, is the letter of today.
    ("കാക്ക കുളിച്ചാല്‍ കൊക്കാവില്ല", "കാക്ക കുളിച്ചാൽ കൊക്കാവില്ല"),
    ("അവര്‍ക്ക്", "അവർക്ക്"),
    # A joiner between virama and consonant chooses a spelling; elsewhere it says nothing.
    ("സോഫ്റ്റ്\u200cവെയർ", "സോഫ്റ്റ്\u200cവെയർ"),
    ("പണം\u200c ഉണ്ട്", "പണം ഉണ്ട്"),
    ("“ആഹാ”… ശരി 😀", '"ആഹാ"... ശരി'),
    ("7 പേർ", "ഏഴ് പേർ"),
    ("൨൧", "ഇരുപത്തിയൊന്ന്"),
    ("1,50,000", "ഒരു ലക്ഷത്തി അമ്പതായിരം"),
    ("5-ാം ക്ലാസ്", "അഞ്ചാം ക്ലാസ്"),
    ("₹500 ആണ്", "അഞ്ഞൂറ് രൂപ ആണ്"),
    ("50% പേർ", "അമ്പത് ശതമാനം പേർ"),
    ("3.14", "മൂന്ന് പോയിന്റ് ഒന്ന് നാല്"),
    ("007", "പൂജ്യം പൂജ്യം ഏഴ്"),
]


@pytest.mark.parametrize(("written", "said"), EXAMPLES)
def test_malayalam_is_spelled_out(written: str, said: str) -> None:
    assert spelled_out(written, MALAYALAM) == said


@given(st.text(st.characters(codec="utf-8") | st.sampled_from([chr(c) for c in range(0x0D00, 0x0D80)])))
def test_what_was_spelled_out_stays_and_has_no_digit(text: str) -> None:
    said = spelled_out(text, MALAYALAM)
    assert spelled_out(said, MALAYALAM) == said
    assert not any(character.isdecimal() for character in said)


def test_a_transcript_is_spelled_by_its_language() -> None:
    settings = TextSettings(languages={"ml": MALAYALAM})
    assert spoken_text("7 പേർ", "ml-IN", settings) == "ഏഴ് പേർ"
    assert spoken_text("7 people", "en", settings) == "7 people"
    assert spoken_text("7", "te", settings) == "ఏడు"


def test_another_language_needs_data_alone() -> None:
    tamil = Spelling(block=0x0B80, numbers="ta", symbols={"%": "சதவீதம்"})
    assert spelled_out("7 பேர் – 50%", tamil) == "ஏழு பேர் - ஐம்பது சதவீதம்"


@pytest.mark.parametrize(
    ("change", "message"),
    [("block=0x0D01", "first code point of an Indic block"), ("numbers=xx", "indic-numtowords has as, bn")],
)
def test_what_does_not_fit_a_language_is_said(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(CorpusConfig, CONFIG, ["recordings=/s", "out=/o", f"preparation.text.languages.ml.{change}"])


def test_recipes_that_name_no_language_are_what_they_were() -> None:
    plain = CorpusConfig(out="/out", recordings="/speech")
    assert "languages" not in plain.recipe
    assert plain.recipe["preparation"]["text"] == {"is_telugu_spelled_out": True}
    assert GIVEN.recipe["languages"] == ["ml"]
