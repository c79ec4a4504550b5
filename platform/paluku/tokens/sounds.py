"""What a text sounds like, letter by letter: what hearing is trained to tell apart.

In the scripts of India a consonant without a mark is said with a vowel, and a vowel's sign is the same sound
as its letter. Written out so, one character is one sound: కమలం is క అ మ అ ల అ ం. Other scripts are taken
letter by letter.
"""

import functools
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

KILLS_THE_VOWEL, CHANGES_THE_CONSONANT = 9, 7  # the canonical combining classes of viramas and of nuktas
SIGN, LETTER = " VOWEL SIGN ", " LETTER "  # in the names of characters


class _Sound(NamedTuple):
    """Of a character: what it says, the vowel after it unless another follows, whether it is such a one."""

    said: str
    vowel: str = ""
    follows_as_vowel: bool = False


def spelled(text: str) -> str:
    """The sounds of each word, words parted by a space; marks of punctuation are not heard."""
    words = ("".join(_sounds(word)) for word in text.split())
    return " ".join(word for word in words if word)


def alphabet(texts: Iterable[str]) -> str:
    """Every sound of the texts, in order; the space is one."""
    return "".join(sorted({sound for text in texts for sound in spelled(text)}))


def _sounds(word: str) -> Iterator[str]:
    vowel = ""
    for character in unicodedata.normalize("NFC", word.lower()):
        if unicodedata.combining(character) == CHANGES_THE_CONSONANT:
            yield character
            continue
        sound = _sound(character)
        if sound is None:
            continue
        if not sound.follows_as_vowel:
            yield vowel
        yield sound.said
        vowel = sound.vowel
    yield vowel


@functools.cache
def _sound(character: str) -> _Sound | None:
    if unicodedata.category(character)[0] not in "LMN":
        return None
    if unicodedata.combining(character) == KILLS_THE_VOWEL:
        return _Sound("", follows_as_vowel=True)
    name = unicodedata.name(character, "")
    if SIGN in name:
        return _Sound(_named(name.replace(SIGN, LETTER)) or character, follows_as_vowel=True)
    script, _, letter = name.partition(LETTER)
    is_vowel = letter == "A" or _named(f"{script}{SIGN}{letter}")
    if not letter or is_vowel or letter.startswith("CHILLU") or not _named(f"{script}{SIGN}AA"):
        return _Sound(character)
    return _Sound(character, vowel=_named(f"{script}{LETTER}A"))


def _named(name: str) -> str:
    try:
        return unicodedata.lookup(name)
    except KeyError:
        return ""
