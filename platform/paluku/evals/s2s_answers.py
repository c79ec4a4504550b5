"""Whether what was said is a fitting answer: the nearest of all answers must be one of the intent's.

Texts are compared by their letters, marks and digits alone: NFC, small, without spaces and punctuation.
"""

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from paluku.corpus.text import normalise
from paluku.corpus.turns import Intent

# Character errors an answer may have, of its letters: more is another answer, or none.
MOST_ERROR = 0.3
# A reply with so few errors has been said to its end.
WHOLE_ERROR = 0.15
# Of a reply that was cut short: with fewer letters it could be the beginning of too many.
LEAST_LETTERS = 8


class Fit(NamedTuple):
    """The nearest answer there is, how far it is, and how far the nearest of the right ones is."""

    nearest: str
    intent: str
    error: float
    right_error: float

    @property
    def is_right(self) -> bool:
        """No answer to something else is nearer, and the error is small enough."""
        return self.right_error <= self.error and self.right_error <= MOST_ERROR


def letters(text: str) -> str:
    """What is compared of a text."""
    kept = (c for c in normalise(text) if unicodedata.category(c)[0] in "LMN")
    return "".join(kept).lower()


class Answers:
    """All replies of all intents."""

    def __init__(self, intents: Iterable[Intent]) -> None:
        known = [(reply.text, intent.name) for intent in intents for reply in intent.replies]
        self._texts, self._intents = [text for text, _ in known], np.array([name for _, name in known])
        spelt = [letters(text) for text in self._texts]
        self._lengths = np.array([len(each) for each in spelt])
        self._letters = np.full((len(spelt), max(self._lengths)), -1)
        for row, each in zip(self._letters, spelt, strict=True):
            row[: len(each)] = list(map(ord, each))

    def judge(self, said: str, intent: str, *, is_cut: bool = False) -> Fit | None:
        """What is nearest to a reply; one that was cut short is compared with the beginnings of answers.

        None where nothing can be said: of an unknown intent, or of a few letters before a cut.
        """
        own = self._intents == intent
        if not own.any() or (is_cut and len(letters(said)) < LEAST_LETTERS):
            return None
        errors = self.errors(said, is_cut=is_cut)
        nearest = int(errors.argmin())
        right = float(errors[own].min())
        return Fit(self._texts[nearest], str(self._intents[nearest]), float(errors[nearest]), right)

    def is_whole(self, said: str, intent: str) -> bool:
        """Whether one of the intent's answers has been said to its end."""
        own = self._intents == intent
        return bool(own.any() and self.errors(said)[own].min() <= WHOLE_ERROR)

    def errors(self, said: str, *, is_cut: bool = False) -> np.ndarray:
        """Edits to each answer over its letters; of a cut reply to its best beginning, over those said.

        Levenshtein 1966, a row for all answers at once: insertions are a running minimum along the row.
        """
        spelt = letters(said)
        places = np.arange(self._letters.shape[1] + 1)
        row = np.broadcast_to(places, (len(self._letters), len(places)))
        for count, letter in enumerate(map(ord, spelt), start=1):
            better = np.minimum(row[:, :-1] + (self._letters != letter), row[:, 1:] + 1)
            row = np.concatenate([np.full((len(row), 1), count), better], axis=1)
            row = np.minimum.accumulate(row - places, axis=1) + places
        if is_cut:
            within = places <= self._lengths[:, None]
            return np.where(within, row, len(spelt) + places[-1]).min(axis=1) / max(len(spelt), 1)
        return row[np.arange(len(row)), self._lengths] / self._lengths
