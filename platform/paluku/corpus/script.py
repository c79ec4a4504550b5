"""Text in one of India's scripts as one keyboard would write it, and without what is no speech.

Their blocks are laid out alike (Unicode Standard, chapter 12, after ISCII): consonants from 0x15 on, the
virama at 0x4D. So one set of rules does for all; docs/text.md has them with examples.
"""

import re
import unicodedata
from fractions import Fraction

from paluku.corpus.text import normalise

BLOCK_SIZE = 0x80
VIRAMA = 0x4D
CONSONANTS = (range(0x15, 0x3B), range(0x58, 0x60))
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


class Script:
    """The rules for the script of a block of 128 code points that begins at `first`."""

    def __init__(self, first: int) -> None:
        self.block = range(first, first + BLOCK_SIZE)
        self.letters = f"{chr(first)}-{chr(self.block[-1])}"  # of a class in a pattern
        self.virama = chr(first + VIRAMA)
        codes = (first + offset for offsets in CONSONANTS for offset in offsets)
        consonants = "".join(chr(code) for code in codes if unicodedata.category(chr(code)) == "Lo")
        # A joiner says how a virama and the consonant behind it are written: anywhere else it says nothing.
        self._joiners = re.compile(
            f"(?<!{self.virama})[{ZWNJ}{ZWJ}]+|[{ZWNJ}{ZWJ}]+(?![{consonants}{ZWNJ}{ZWJ}])"
        )
        self._repeated_joiners = re.compile(f"([{ZWNJ}{ZWJ}])[{ZWNJ}{ZWJ}]+")
        self._punctuation = tuple(
            (re.compile(pattern), replacement)
            for pattern, replacement in (
                (r"\s+", " "),
                (r" (?=[.,?!;:)])", ""),
                (r"\( ", "("),
                (r"\(\)", " "),
                (r"([,;:!?\"'-])\1+", r"\1"),
                (r"\.{2,}", "..."),
                # Not behind initials: యు.ఎస్.
                (rf"(?<=[{self.letters}]{{4}})\.(?=[{self.letters}])", ". "),
                (rf"([,:?!;])(?=[{self.letters}])", r"\1 "),
            )
        )

    def spelled(self, text: str) -> str:
        """One spelling for what looks and sounds the same, numbers still in digits.

        NFC; joiners only where they choose a spelling; quotes, dashes and dandas unified; digits of any
        script as ASCII ones, numerals by their value; emoji, symbols and controls dropped.
        """
        text = self._joined("".join(map(self._character, normalise(text.translate(_UNIFIED)))))
        return self._apart(re.sub(r"\s+", " ", text.replace("\u2212", "-")))

    def finished(self, text: str) -> str:
        """What is left when all numbers were said, with marks and spaces where they belong."""
        text = re.sub("[" + re.escape(_BESIDE_NUMBERS) + "]", " ", text)
        return self._punctuated(self._joined(text))

    def _character(self, character: str) -> str:
        if character in _KEPT or character in {ZWNJ, ZWJ, "\u2212"}:
            return character
        if (digit := unicodedata.decimal(character, None)) is not None:
            return str(digit)
        category = unicodedata.category(character)
        if ord(character) in self.block or category[0] == "L":
            return character
        if category in {"No", "Nl"}:
            return _numeral(character)
        if category in {"Cc", "Cf", "Cs", "Co", "Cn", "Me"}:
            return ""
        if category[0] == "M":
            return "" if "VARIATION SELECTOR" in unicodedata.name(character, "") else character
        return " "

    def _joined(self, text: str) -> str:
        """Without meaningless joiners; composing may leave more of them, so until nothing changes."""
        while True:
            bare = self._joiners.sub("", unicodedata.normalize("NFC", text))
            kept = self._repeated_joiners.sub(r"\1", bare)
            if kept == text:
                return text
            text = kept

    def _apart(self, text: str) -> str:
        """Numbers parted from the words they are hyphenated to: కోవిడ్-19."""
        text = re.sub(rf"(?<=[^\W\d_])-(?=\d)|(?<=[{self.letters}])-(?=\d)", " ", text)
        return re.sub(rf"(?<=\d)-\s?(?=[^\W\d_]|[{self.letters}])", " ", text)

    def _punctuated(self, text: str) -> str:
        while True:
            kept = text
            for pattern, replacement in self._punctuation:
                kept = pattern.sub(replacement, kept)
            kept = kept.strip()
            if kept == text:
                return text
            text = kept


def _numeral(character: str) -> str:
    """`²`, `①`, `Ⅳ`, `⅓` as digits apart from those beside them: 10² is not 102."""
    value = unicodedata.numeric(character, None)
    if value is None:
        return character
    number = abs(Fraction(value).limit_denominator(1000))  # the smallest there is: 1/320
    return f" {number} "
