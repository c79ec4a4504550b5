"""Telugu text to the full-context labels that the voice cmu-nk-hsmm was trained with (MaryTTS, te).

Labels are what an HTS voice's decision trees ask about: a phone with two neighbours on each side, and the
syllable's place and accent. https://github.com/marytts/marytts (marytts-lang-te)
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import NamedTuple

from paluku.corpus.voices.alignment import Token, tokens
from paluku.errors import AudioError

# Letter and phone in turn.
_INDEPENDENT_TABLE = "అ a ఆ aa ఇ i ఈ ii ఉ u ఊ uu ఋ rx ఎ e ఏ ei ఐ ai ఒ o ఓ oo ఔ au"
_DEPENDENT_TABLE = "ా aa ి i ీ ii ు u ూ uu ృ rx ౄ rx ె e ే ei ై ai ొ o ో oo ౌ au"
_CONSONANT_TABLE = """
    క k ఖ kh గ g ఘ gh ఙ ng~ చ ch ఛ chh జ j ఝ jh ఞ nj~ ట t: ఠ t:h డ d: ఢ d:h ణ nd~ త t థ th ద d ధ dh న n
    ప p ఫ ph బ b భ bh మ m య y ర r ఱ r: ల l ళ l: వ v శ sh ష shh స s హ h
"""


def _table(pairs: str) -> dict[str, str]:
    parts = pairs.split()
    return dict(zip(parts[::2], parts[1::2], strict=True))


_INDEPENDENT, _DEPENDENT = _table(_INDEPENDENT_TABLE), _table(_DEPENDENT_TABLE)
_CONSONANTS = _table(_CONSONANT_TABLE)
_VIRAMA, _ANUSVARA, _VISARGA = "్", "ం", "ః"
_NASAL = "n:"
_INHERENT = "a"
_VOWELS = frozenset([*_INDEPENDENT.values(), *_DEPENDENT.values(), "a:"])
_PAUSE = "_"
_ABSENT = "0"

# Phones that the label format has no letters for, as the voice numbers them.
_CODED_PHONES = "_ a: d: d:h l: n: nd~ ng~ nj~ qs~ r: rx~ t: t:h t:ra"
_CODED = {phone: f"te{number}" for number, phone in enumerate(_CODED_PHONES.split())}

# Letters (the group), or a mark that parts phrases.
_PIECES = re.compile(r"([\u0c00-\u0c65\u0c70-\u0c7f\u200c\u200d]+)|[,.?!;:।॥…\n]")
_LETTERS_OR_DIGITS = re.compile(r"[^\W_]")
_TELUGU = re.compile(r"[\u0c00-\u0c65\u0c70-\u0c7f]")


class Labels(NamedTuple):
    """One line for each phone, and for each word of `alignment.tokens` its first and last line."""

    lines: tuple[str, ...]
    words: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Context:
    """What a label says beside the phones; the field names are the format's, in its order."""

    accented: int = 0
    next_is_pause: int = 0
    next_tobi_endtone: str = "0"
    onsetcoda: str = "0"
    pos_in_syl: int = 0
    prev_accent: str = "0"
    prev_syl_break: int = 0
    stressed: int = 0
    syl_break: int = 0
    tobi_accent: str = "0"

    def __str__(self) -> str:
        return "|".join(f"{name}={value}" for name, value in vars(self).items())


class _Phone(NamedTuple):
    name: str
    context: _Context
    word: int | None  # of `alignment.tokens`


class _Syllable(NamedTuple):
    phones: tuple[str, ...]
    word: int
    is_first: bool  # of its word
    is_last: bool
    in_last_word: bool  # of its phrase
    is_lone_word: bool  # its word is the whole phrase


def labels(text: str) -> Labels:
    """Labels of a text in Telugu letters.

    Raises:
        AudioError: for a word in other letters or in digits, or when there is no word at all.
    """
    words = tokens(text)
    for word in words:
        if not _TELUGU.search(word.text) or _LETTERS_OR_DIGITS.search(_TELUGU.sub("", word.text)):
            raise AudioError(f"the HTS voice cannot say {word.text[:40]!r}; write it in Telugu letters")
    phrases = _phrases(text, words) if words else []
    if not phrases:
        raise AudioError(f"the HTS voice says nothing for {text[:40]!r}; give it a text with Telugu letters")
    phones = [_Phone(_PAUSE, _Context(), None)]
    for number, phrase in enumerate(phrases):
        phones += _spoken(phrase, opens=number == 0, closes=number == len(phrases) - 1)
        phones.append(_Phone(_PAUSE, _Context(prev_syl_break=4, prev_accent="L+H*"), None))
    spans = _spans(phones, len(words))
    if len(spans) < len(words):
        raise AudioError(f"the HTS voice has no sound for a word of {text[:40]!r}; write it in other letters")
    return Labels(tuple(_lines(phones)), spans)


def phones_of(word: str) -> list[str]:
    """A word's phones; signs that have no sound are passed over."""
    letters = unicodedata.normalize("NFC", word).replace("ఁ", _ANUSVARA)
    letters = letters.replace("\u200c", "").replace("\u200d", "")
    found: list[str] = []
    for here, then in zip(letters, f"{letters} "[1:], strict=True):
        if here in _INDEPENDENT:
            found.append(_INDEPENDENT[here])
        elif here in _DEPENDENT:
            found.append(_DEPENDENT[here])
        elif here in _CONSONANTS:
            inherent = then not in _DEPENDENT and then != _VIRAMA
            found += [_CONSONANTS[here], *([_INHERENT] if inherent else [])]
        elif here == _ANUSVARA:
            found.append(_NASAL)
        elif here == _VISARGA:
            found += ["h", _INHERENT]
    return found


def syllables_of(phones: list[str]) -> list[tuple[str, ...]]:
    """Consonants go with the vowel after them, a nasal sign with the vowel before; the rest ends the word."""
    found: list[tuple[str, ...]] = []
    current: list[str] = []
    for number, phone in enumerate(phones):
        current.append(phone)
        later = phones[number + 1 :]
        closes = phone in _VOWELS or phone == _NASAL
        if closes and later[:1] != [_NASAL] and not _VOWELS.isdisjoint(later):
            found.append(tuple(current))
            current = []
    return [*found, tuple(current)] if current else found


def _phrases(text: str, words: list[Token]) -> list[list[_Syllable]]:
    phrases: list[list[tuple[int, list[tuple[str, ...]]]]] = [[]]
    for piece in _PIECES.finditer(text):
        syllables = syllables_of(phones_of(piece[0]))
        if syllables:
            owner = next(n for n, word in enumerate(words) if word.start <= piece.start() < word.end)
            phrases[-1].append((owner, syllables))
        elif phrases[-1] and piece[1] is None:
            phrases.append([])
    return [_flat(phrase) for phrase in phrases if phrase]


def _flat(phrase: list[tuple[int, list[tuple[str, ...]]]]) -> list[_Syllable]:
    return [
        _Syllable(
            phones,
            word=owner,
            is_first=place == 0,
            is_last=place == len(syllables) - 1,
            in_last_word=number == len(phrase) - 1,
            is_lone_word=len(phrase) == 1,
        )
        for number, (owner, syllables) in enumerate(phrase)
        for place, phones in enumerate(syllables)
    ]


def _spoken(phrase: list[_Syllable], *, opens: bool, closes: bool) -> list[_Phone]:
    """A phrase's phones; `opens` and `closes` say whether it is the first or last of the text."""
    found: list[_Phone] = []
    previous_break = 0 if opens else 4
    for number, syllable in enumerate(phrase):
        context = _syllable_context(phrase, number, closes, previous_break)
        ends = number == len(phrase) - 1
        found += _syllable_phones(syllable, context, ends)
        previous_break = context.syl_break
    return found


def _syllable_context(phrase: list[_Syllable], number: int, closes: bool, previous_break: int) -> _Context:
    here = phrase[number]
    falls = here.in_last_word and closes and not here.is_lone_word
    # The accent before: the first syllable of every word is accented, so there is one from the second on.
    follows = number > 0 and not (here.is_first and phrase[number - 1].is_first)
    return _Context(
        accented=int(here.is_first),
        stressed=int(here.is_first),
        tobi_accent=("!Hst" if falls else "L+Hst") if here.is_first else "0",
        prev_accent="L+H*" if follows else "0",
        syl_break=(4 if here.in_last_word else 1) if here.is_last else 0,
        prev_syl_break=previous_break,
        next_tobi_endtone=("L-Lpc" if closes else "H-Lpc") if number == len(phrase) - 2 else "0",
    )


def _syllable_phones(syllable: _Syllable, context: _Context, ends: bool) -> list[_Phone]:
    vowel = next((place for place, phone in enumerate(syllable.phones) if phone in _VOWELS), 0)
    last = len(syllable.phones) - 1
    return [
        _Phone(
            phone,
            replace(
                context,
                onsetcoda="onset" if place < vowel else "coda",
                pos_in_syl=min(place, 4),
                next_is_pause=int(ends and place == last),
            ),
            syllable.word,
        )
        for place, phone in enumerate(syllable.phones)
    ]


def _lines(phones: list[_Phone]) -> list[str]:
    names = [_CODED.get(phone.name, phone.name) for phone in phones]
    around = [_ABSENT, _ABSENT, *names, _ABSENT, _ABSENT]
    return [
        "{}^{}-{}+{}={}||{}||".format(*around[place : place + 5], phone.context)
        for place, phone in enumerate(phones)
    ]


def _spans(phones: list[_Phone], count: int) -> tuple[tuple[int, int], ...]:
    places: list[list[int]] = [[] for _ in range(count)]
    for number, phone in enumerate(phones):
        if phone.word is not None:
            places[phone.word].append(number)
    return tuple((own[0], own[-1]) for own in places if own)
