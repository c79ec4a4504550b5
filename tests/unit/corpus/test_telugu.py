"""Worked examples of every rule in docs/text.md, and the laws that hold for any text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.telugu import normalise_telugu
from paluku.corpus.telugu_numbers import cardinal, counting, digits, ordinal
from paluku.corpus.text import normalise

EXAMPLES = [
    # characters
    ("క\u0c46\u0c56", "క\u0c48"),  # the vowel sign AI in two parts and in one
    ("\ufeffతెలుగు\u200b \x07భాష", "తెలుగు భాష"),
    ("సరే 😀👍🏽 పద ❤\ufe0f", "సరే పద"),
    ("Hyderabad నగరం", "Hyderabad నగరం"),
    ("రాజు & సీత * #1", "రాజు మరియు సీత ఒకటి"),
    ("①, Ⅳవ అధ్యాయం, 10², మీ²", "ఒకటి, నాలుగవ అధ్యాయం, పది రెండు, మీ రెండు"),
    # joiners: kept between a virama and a consonant, where they choose between two spellings
    ("రామ్\u200cచరణ్", "రామ్\u200cచరణ్"),
    ("ర్\u200dక", "ర్\u200dక"),
    ("ఆన్\u200c", "ఆన్"),
    ("ఆన్\u200c, స్\u200c\u200cకూల్", "ఆన్, స్\u200cకూల్"),
    ("లో\u200cపల స్\u200cఆ మేము\u200d", "లోపల స్ఆ మేము"),
    ("ఈ-mail\u200cలో", "ఈ-mailలో"),
    # punctuation
    ("“నమస్తే” – ‘రా’…", "\"నమస్తే\" - 'రా'..."),
    ("వచ్చాడు। వెళ్ళాడు॥", "వచ్చాడు. వెళ్ళాడు."),
    ("ఏంటి ?? రా!!!", "ఏంటి? రా!"),
    ("దగ్గర ,ఉంది.కొన్ని", "దగ్గర, ఉంది. కొన్ని"),
    ("యు.ఎస్. నేవీ", "యు.ఎస్. నేవీ"),
    # cardinals
    ("౧౨౩ మంది", "నూట ఇరవై మూడు మంది"),
    ("మొత్తం 500", "మొత్తం ఐదు వందలు"),
    ("500 మంది, 1 కిలో, 21 రోజులు", "ఐదు వందల మంది, ఒక కిలో, ఇరవై ఒక్క రోజులు"),
    ("1 నుంచి 10 వరకు", "ఒకటి నుంచి పది వరకు"),
    ("1,50,000 ఓట్లు", "ఒక లక్షా యాభై వేల ఓట్లు"),
    ("16,000 పైగా", "పదహారు వేల పైగా"),
    ("1,00,00,00,000", "వంద కోట్లు"),
    ("5వేలు, 24గంటలు", "ఐదు వేలు, ఇరవై నాలుగు గంటలు"),
    ("4గురు, 5గురు", "నలుగురు, ఐదుగురు"),
    # years
    ("1947", "పందొమ్మిది వందల నలభై ఏడు"),
    ("2020లో, 2016 లో", "రెండు వేల ఇరవైలో, రెండు వేల పదహారులో"),
    ("1980లలో", "పందొమ్మిది వందల ఎనభైలలో"),
    ("15-08-1947", "పదిహేను ఎనిమిది పందొమ్మిది వందల నలభై ఏడు"),
    # ordinals and case endings
    ("5వ తరగతి, 2వది, 3వసారి", "ఐదవ తరగతి, రెండవది, మూడవ సారి"),
    ("12 వ శతాబ్దం, 20వ", "పన్నెండవ శతాబ్దం, ఇరవయ్యవ"),
    ("200కి 25న", "రెండు వందలకి ఇరవై ఐదున"),
    # units that begin as case endings do
    ("60 కి.మీ. దూరం, 60కి.మీ. దూరం", "అరవై కి.మీ. దూరం, అరవై కి.మీ. దూరం"),
    ("5 కి.గ్రా. బియ్యం, 1 కి. మీ. నడక", "ఐదు కి.గ్రా. బియ్యం, ఒక కి. మీ. నడక"),
    ("3 కి మీ, 2 కి గ్రా, 10 ని. తర్వాత, 5 ని.లు", "మూడు కి మీ, రెండు కి గ్రా, పది ని. తర్వాత, ఐదు ని.లు"),
    ("200కి. 16 లో.ఆయన", "రెండు వందలకి. పదహారులో. ఆయన"),
    # decimals, shares, fractions, ranges
    ("3.14", "మూడు పాయింట్ ఒకటి నాలుగు"),
    ("12.5%", "పన్నెండు పాయింట్ ఐదు శాతం"),
    ("50 %కి", "యాభై శాతానికి"),
    ("3/4 కప్పు, ½, 2½, 5/8", "ముప్పావు కప్పు, అర, రెండున్నర, ఐదు బై ఎనిమిది"),
    ("⅓ వంతు, ¼ కప్పు, ¾కి", "ఒకటి బై మూడు వంతు, పావు కప్పు, ముప్పావుకి"),
    ("2-3 రోజులు", "రెండు మూడు రోజులు"),
    ("-5°C, 40°", "మైనస్ ఐదు డిగ్రీల సెల్సియస్, నలభై డిగ్రీలు"),
    # dialled
    ("9848022338", "తొమ్మిది ఎనిమిది నాలుగు ఎనిమిది సున్నా రెండు రెండు మూడు మూడు ఎనిమిది"),
    ("+91 98480 22338", f"తొమ్మిది ఒకటి {digits('9848022338')}"),
    ("040-23456789", f"సున్నా నాలుగు సున్నా {digits('23456789')}"),
    ("007", "సున్నా సున్నా ఏడు"),
    # money
    ("₹500, ₹1, 500/-", "ఐదు వందల రూపాయలు, ఒక రూపాయి, ఐదు వందల రూపాయలు"),
    ("రూ.500/- Rs. 20", "ఐదు వందల రూపాయలు ఇరవై రూపాయలు"),
    ("₹10.50", "పది రూపాయల యాభై పైసలు"),
    ("₹2.5 లక్షలు", "రెండు పాయింట్ ఐదు లక్షల రూపాయలు"),
    ("$3.6 బిలియన్", "మూడు పాయింట్ ఆరు బిలియన్ డాలర్లు"),
    ("రూ.1,500/-లు, ₹500లు, 500/-లకు", "పదిహేను వందల రూపాయలు, ఐదు వందల రూపాయలు, ఐదు వందల రూపాయలకు"),
    ("₹5-6 లక్షలు, ₹500-600", "ఐదు ఆరు లక్షల రూపాయలు, ఐదు వందలు ఆరు వందల రూపాయలు"),
    # dates and times
    ("2024-01-15, 2024/1/5", "రెండు వేల ఇరవై నాలుగు ఒకటి పదిహేను, రెండు వేల ఇరవై నాలుగు ఒకటి ఐదు"),
    ("10:05:30, 10:00:01", "పది గంటల ఐదు నిమిషాల ముప్పై సెకన్లు, పది గంటల ఒక సెకను"),
    ("8:30 గం.లకు, 9:00 గం. వరకు", "ఎనిమిది గంటల ముప్పై నిమిషాలకు, తొమ్మిది గంటలు వరకు"),
    ("7:30-8:30", "ఏడు గంటల ముప్పై నిమిషాలు ఎనిమిది గంటల ముప్పై నిమిషాలు"),
    ("10:30, 1:00, 9:05కి", "పది గంటల ముప్పై నిమిషాలు, ఒంటి గంట, తొమ్మిది గంటల ఐదు నిమిషాలకి"),
    ("4.40 గంటలకు", "నాలుగు గంటల నలభై నిమిషాలకు"),
    # beside letters
    ("కోవిడ్-19, G20, 3kg", "కోవిడ్ పందొమ్మిది, G ఇరవై, మూడు kg"),
    ("2.లోతైన (100 అడుగులు)", "రెండు. లోతైన (వంద అడుగులు)"),
]

TELUGU = [chr(code) for code in range(0x0C00, 0x0C80)]
WRITTEN = st.text(st.sampled_from([*TELUGU, "\u200c", "\u200d"]), min_size=1)
BESIDE = "\u200c\u200d 0123456789.,:;/-+%°₹$½&()'\"!?…।“‘–\u2212Rs.రూ.Cगc\u0301😀\ufe0f\n\x00"
NUMERALS = st.characters(categories=("Nd", "Nl", "No"))
MIXED = st.text(st.one_of(st.sampled_from(TELUGU), st.sampled_from(BESIDE), NUMERALS, st.characters()))
# Letters of all scripts, and everything that is a number.
SAID = st.text(
    st.one_of(st.sampled_from([*TELUGU, "\u200c", "\u200d"]), st.characters(categories=("L", "N")))
)


@pytest.mark.parametrize(("text", "normal"), EXAMPLES)
def test_worked_examples(text: str, normal: str) -> None:
    assert normalise_telugu(text) == normal


def test_there_are_enough_examples() -> None:
    assert len(EXAMPLES) >= 40


@given(st.one_of(WRITTEN, MIXED))
def test_what_is_normal_stays_as_it_is(text: str) -> None:
    normal = normalise_telugu(text)
    assert normalise_telugu(normal) == normal
    assert normalise(normal) == normal, "the light normalisation agrees"


@given(st.lists(SAID, min_size=1))
def test_no_word_is_emptied(words: list[str]) -> None:
    kept = [word for word in words if any(unicodedata.category(c)[0] in "LN" for c in word)]
    normal = normalise_telugu(" , ".join(kept))  # a case ending joins the number before it: commas part them
    assert [word for word in normal.split(",") if word.strip()] == normal.split(",")[: len(kept)]
    assert normal.count(",") == max(len(kept) - 1, 0)


@given(WRITTEN)
def test_letters_without_digits_or_joiners_only_compose(text: str) -> None:
    plain = "".join(
        c for c in text if not unicodedata.category(c).startswith("N") and c not in "\u200c\u200d"
    )
    assert normalise_telugu(plain) == normalise(plain)


@given(MIXED)
def test_no_digit_is_left(text: str) -> None:
    left = [c for c in normalise_telugu(text) if unicodedata.category(c)[0] == "N"]
    assert set(left) <= set(TELUGU), "Telugu's own fraction digits stay"
    assert not any(unicodedata.category(c) == "Nd" for c in left)


@given(st.integers(0, 10**15))
def test_cardinals_are_telugu_words_in_their_own_spelling(number: int) -> None:
    words = cardinal(number)
    assert words == normalise_telugu(words)
    assert all("\u0c00" <= c <= "\u0c7f" or c == " " for c in words)


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_different_numbers_are_said_differently(one: int, other: int) -> None:
    assert (cardinal(one) == cardinal(other)) == (one == other)
    assert (counting(one) == counting(other)) == (one == other)


@pytest.mark.parametrize(
    ("words", "rank"),
    [("ఒకటి", "ఒకటవ"), ("రెండు", "రెండవ"), ("పది", "పదవ"), ("ముప్పై", "ముప్పయ్యవ"), ("వంద", "వందవ"), ("వెయ్యి", "వెయ్యవ")],
)
def test_ordinals(words: str, rank: str) -> None:
    assert ordinal(words) == rank
