"""Telugu text as it is spoken: one spelling for what looks and sounds the same, numbers in words.

The rules, one by one with examples: docs/text.md.
"""

import re

from paluku.corpus.script import Script
from paluku.corpus.telugu_numbers import say_numbers

SCRIPT = Script(0x0C00)


def normalise_telugu(text: str) -> str:
    """The text as it is said and as one keyboard would write it.

    NFC; joiners only where they choose a spelling; numbers, money, times and shares in words; quotes,
    dashes and dandas unified; letters of other scripts kept; emoji, symbols and controls dropped. What
    was normalised stays as it is, and a word that has a letter or a digit is never lost.
    """
    text = say_numbers(SCRIPT.spelled(text))
    return SCRIPT.finished(re.sub(r"\s*&\s*", " మరియు ", text))
