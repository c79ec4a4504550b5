"""Transcripts of a language of India as they are spoken, by rules that are data.

For a language that has no code of its own here (Telugu has: `corpus.telugu`). The words of cardinals are
those of AI4Bharat's `indic-numtowords` (MIT); docs/new-language.md says what a language has to give.
"""

import functools
import re
import unicodedata

from indic_numtowords import num2words, supported_langs
from pydantic import Field, field_validator

from paluku.config import Config
from paluku.corpus.script import BLOCK_SIZE, Script
from paluku.corpus.text import normalise

# Devanagari to Malayalam: the blocks that are laid out alike.
FIRST_BLOCK, LAST_BLOCK = 0x0900, 0x0D00
# A number of this many digits without separators is a telephone number, not a quantity.
DIALLED_DIGITS = 10
AMOUNT = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d+)?"
CURRENCIES = "₹$€£"


class Spelling(Config):
    """What a language has to give; `symbols` and `point` are words, none leave the sign out."""

    block: int  # the first code point of its script
    numbers: str  # the language's code in indic-numtowords
    replaced: dict[str, str] = Field(default_factory=dict)  # one spelling by another, before all else
    symbols: dict[str, str] = Field(
        default_factory=dict
    )  # said behind their number (₹ $ € £ % °), or alone: &
    point: str = ""  # between a whole number and its decimals

    @field_validator("block")
    @classmethod
    def _one_of_the_blocks(cls, block: int) -> int:
        if not FIRST_BLOCK <= block <= LAST_BLOCK or block % BLOCK_SIZE:
            raise ValueError("give the first code point of an Indic block, such as 0x0D00 for Malayalam")
        return block

    @field_validator("numbers")
    @classmethod
    def _known(cls, numbers: str) -> str:
        if numbers not in supported_langs:
            raise ValueError(f"indic-numtowords has {', '.join(supported_langs)}")
        return numbers


def spelled_out(text: str, spelling: Spelling) -> str:
    """The text without digits, and as one keyboard would write it; what was spelled out stays as it is."""
    script = _script(spelling.block)
    text = _said(script.spelled(_replaced(text, spelling)), spelling, script)
    return script.finished(text)


@functools.cache
def _script(block: int) -> Script:
    return Script(block)


def _replaced(text: str, spelling: Spelling) -> str:
    text = normalise(text)
    for old, new in spelling.replaced.items():
        text = text.replace(unicodedata.normalize("NFC", old), new)
    return text


def _said(text: str, spelling: Spelling, script: Script) -> str:
    text = re.sub(rf"([{CURRENCIES}])\s?({AMOUNT})", r"\2 \1", text)  # ₹500 is said as 500 ₹
    for sign, word in spelling.symbols.items():
        text = re.sub(rf"\s*{re.escape(sign)}\s*", f" {word} ", text)
    return re.sub(
        rf"({AMOUNT})(?:\s?(?=[{_signs(script)}]))?", lambda match: _words(match, spelling, script), text
    )


@functools.cache
def _signs(script: Script) -> str:
    """The vowel signs and other marks that hang on a letter before them."""
    return "".join(chr(code) for code in script.block if unicodedata.category(chr(code))[0] == "M")


def _words(match: re.Match[str], spelling: Spelling, script: Script) -> str:
    """A number's words; an ending that begins with a vowel sign takes the place of their last virama (5ാം)."""
    words = _amount(match[1], spelling)
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    if after and after in _signs(script):
        words = words.removesuffix(script.virama)
        after = ""
    return f"{' ' * before.isalnum()}{words}{' ' * after.isalnum()}"


def _amount(text: str, spelling: Spelling) -> str:
    whole, point, decimals = text.replace(",", "").partition(".")
    is_dialled = len(whole) >= DIALLED_DIGITS and "," not in text
    said = _digits(whole, spelling) if is_dialled or whole.startswith("0") else _number(whole, spelling)
    if not point:
        return said
    return " ".join(filter(None, (said, spelling.point, _digits(decimals, spelling))))


def _digits(text: str, spelling: Spelling) -> str:
    return " ".join(_number(digit, spelling) for digit in text)


def _number(text: str, spelling: Spelling) -> str:
    return unicodedata.normalize("NFC", str(num2words(text, lang=spelling.numbers)))
