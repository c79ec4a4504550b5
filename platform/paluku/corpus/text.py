"""Text as every stage compares and hashes it."""

import unicodedata

# Invisible characters that carry no sound and differ between keyboards. ZWJ and ZWNJ stay: they
# choose between conjunct and explicit virama, and so between spellings.
DROPPED = dict.fromkeys(map(ord, "\ufeff\u200b\u2060\u00ad"))


def normalise(text: str) -> str:
    """Unicode NFC, without invisible separators, with single spaces and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text.translate(DROPPED)).split())
