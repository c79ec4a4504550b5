"""Telugu text as it is spoken: one spelling for what looks and sounds the same, numbers in words.

The rules, one by one with examples: docs/text.md.
"""

import re
import unicodedata
from fractions import Fraction

from paluku.corpus.telugu_numbers import say_numbers
from paluku.corpus.text import normalise

TELUGU_BLOCK = range(0x0C00, 0x0C80)
_TELUGU = "\u0c00-\u0c7f"
_CONSONANT = "\u0c15-\u0c39\u0c58-\u0c5a\u0c5d"
ZWNJ, ZWJ = "\u200c", "\u200d"

_UNIFIED = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‘’‚‛`´′", "'"),
        **dict.fromkeys("‐‑‒–—―", "-"),
        **dict.fromkeys("।॥", "."),
        "…": "...",
        "⁄": "/",
    }
)
# Read aloud with a number; alone they are no speech.
_BESIDE_NUMBERS = "₹$€£%°½+/&"
_PUNCTUATION = ".,?!;:'\"()-"
_KEPT = frozenset(_BESIDE_NUMBERS + _PUNCTUATION)

# A joiner says how a virama and the consonant behind it are written: anywhere else it says nothing.
_JOINERS = re.compile(f"(?<!\u0c4d)[{ZWNJ}{ZWJ}]+|[{ZWNJ}{ZWJ}]+(?![{_CONSONANT}{ZWNJ}{ZWJ}])")
_REPEATED_JOINERS = re.compile(f"([{ZWNJ}{ZWJ}])[{ZWNJ}{ZWJ}]+")

_PUNCTUATION_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\s+", " "),
        (r" (?=[.,?!;:)])", ""),
        (r"\( ", "("),
        (r"\(\)", " "),
        (r"([,;:!?\"'-])\1+", r"\1"),
        (r"\.{2,}", "..."),
        # Not behind initials: యు.ఎస్.
        (rf"(?<=[{_TELUGU}]{{4}})\.(?=[{_TELUGU}])", ". "),
        (rf"([,:?!;])(?=[{_TELUGU}])", r"\1 "),
    )
)


def normalise_telugu(text: str) -> str:
    """The text as it is said and as one keyboard would write it.

    NFC; joiners only where they choose a spelling; numbers, money, times and shares in words; quotes,
    dashes and dandas unified; letters of other scripts kept; emoji, symbols and controls dropped. What
    was normalised stays as it is, and a word that has a letter or a digit is never lost.
    """
    text = _joined(_characters(normalise(text.translate(_UNIFIED))))
    text = re.sub(r"\s+", " ", text.replace("\u2212", "-"))
    text = say_numbers(_apart(text))
    text = re.sub(r"\s*&\s*", " మరియు ", text)
    text = re.sub("[" + re.escape(_BESIDE_NUMBERS) + "]", " ", text)
    return _punctuated(_joined(text))


def _characters(text: str) -> str:
    return "".join(map(_character, text))


def _character(character: str) -> str:
    if character in _KEPT or character in {ZWNJ, ZWJ, "\u2212"}:
        return character
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    category = unicodedata.category(character)
    if ord(character) in TELUGU_BLOCK or category[0] == "L":
        return character
    if category in {"No", "Nl"}:
        return _numeral(character)
    if category in {"Cc", "Cf", "Cs", "Co", "Cn", "Me"}:
        return ""
    if category[0] == "M":
        return "" if "VARIATION SELECTOR" in unicodedata.name(character, "") else character
    return " "


def _numeral(character: str) -> str:
    """`²`, `①`, `Ⅳ`, `⅓` as digits apart from those beside them: 10² is not 102."""
    value = unicodedata.numeric(character, None)
    if value is None:
        return character
    number = abs(Fraction(value).limit_denominator(1000))  # the smallest there is: 1/320
    return f" {number} "


def _joined(text: str) -> str:
    """Without meaningless joiners; composing may leave more of them, so until nothing changes."""
    while True:
        kept = _REPEATED_JOINERS.sub(r"\1", _JOINERS.sub("", unicodedata.normalize("NFC", text)))
        if kept == text:
            return text
        text = kept


def _apart(text: str) -> str:
    """Numbers parted from the words they are hyphenated to: కోవిడ్-19."""
    text = re.sub(rf"(?<=[^\W\d_])-(?=\d)|(?<=[{_TELUGU}])-(?=\d)", " ", text)
    return re.sub(rf"(?<=\d)-\s?(?=[^\W\d_]|[{_TELUGU}])", " ", text)


def _punctuated(text: str) -> str:
    while True:
        kept = text
        for pattern, replacement in _PUNCTUATION_RULES:
            kept = pattern.sub(replacement, kept)
        kept = kept.strip()
        if kept == text:
            return text
        text = kept
