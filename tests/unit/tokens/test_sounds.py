"""What texts sound like, one character a sound."""

import pytest

from paluku.tokens.sounds import alphabet, spelled


@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("కమలం", "కఅమఅలఅం"),
        ("నమస్కారం, మీరు!", "నఅమఅసకఆరఅం మఈరఉ"),
        ("అన్నం తిను", "అననఅం తఇనఉ"),
        ("దుఃఖం - క్ష", "దఉఃఖఅం కషఅ"),
        ("కై", "కఐ"),
        ("అవన్‌", "అవఅన"),
        ("എനിക്ക് അവൻ", "എനഇകക അവഅൻ"),
        ("क़ी", "क़ई"),
        ("Hello, 12", "hello 12"),
        (" ,. ", ""),
    ],
)
def test_worked_by_hand(text: str, sounds: str) -> None:
    assert spelled(text) == sounds


def test_an_alphabet_holds_each_sound_once() -> None:
    assert alphabet(["కమలం", "కల"]) == "".join(sorted("కఅమలం"))
    assert alphabet([]) == ""
