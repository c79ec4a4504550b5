"""Which letter of the user's words is heard in each frame, told from where the words end.

A word's tokens stand where it has been heard (`tokens.extract`). Its letters are taken to be as long as each
other, no longer than people speak them, and the last to end there. That is wrong by some frames, and right
enough to learn sounds from: hybrid speech recognisers were begun like this (a "flat start"). What has learned
from it tells better where in its word each letter lies (`align`).
"""

import unicodedata
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from paluku.tokens.text import PAD, TextTokenizer

MOST_FRAMES = 3.2  # of a letter at 25 frames a second
SILENCES_A_VOWEL = 9  # the canonical combining class of viramas


class HeardWord(NamedTuple):
    """A word of the user's: the frames from `start` to before `end`, and its letters' ids."""

    start: int
    end: int
    letters: tuple[int, ...]

    def spread(self) -> Int[np.ndarray, "F"]:
        """The letter of each frame, all of them as long as each other."""
        frames = self.end - self.start
        return np.array(self.letters)[np.arange(frames) * len(self.letters) // frames]


class Letters:
    """For one tokenizer: letters are its ids of single characters."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        words = [tokenizer.decode([token]) if token else "" for token in range(tokenizer.vocab_size)]
        self._begins = np.array([word.startswith(" ") for word in words])
        self._spelled = [_spelled(tokenizer, word) for word in words]

    def words(self, user_text: Int[np.ndarray, "T"]) -> list[HeardWord]:
        """Of a document's frames, in their order; those without a letter, or without time, are left out."""
        words, end = [], 0
        for first, tokens in self._words(user_text):
            spelled = [letter for token in tokens for letter in self._spelled[token]]
            start, end = max(end, first - round(MOST_FRAMES * len(spelled))), first
            if spelled and start < end:
                words.append(HeardWord(start, end, tuple(spelled)))
        return words

    def heard(self, user_text: Int[np.ndarray, "T"]) -> Int[np.ndarray, "T"]:
        """Of a document's frames, each word's letters spread evenly; `PAD` where no letter is heard."""
        letters = np.full(len(user_text), PAD, np.int64)
        for word in self.words(user_text):
            letters[word.start : word.end] = word.spread()
        return letters

    def _words(self, user_text: Int[np.ndarray, "T"]) -> list[tuple[int, list[int]]]:
        """Where each word's tokens begin, and the tokens; a mark without a space ends the word before."""
        words: list[tuple[int, list[int]]] = []
        for place in np.flatnonzero(user_text).tolist():
            token = int(user_text[place])
            if not words or self._begins[token] or place > words[-1][0] + len(words[-1][1]):
                words.append((place, []))
            words[-1][1].append(token)
        return words


def _spelled(tokenizer: TextTokenizer, word: str) -> list[int]:
    """Its letters that sound, as ids."""
    sounding = [c for c in word if unicodedata.combining(c) != SILENCES_A_VOWEL]
    return [letter for c in sounding if (letter := tokenizer.letter(c)) is not None]


def align(log_probs: Float[np.ndarray, "N F V"], letters: Int[np.ndarray, "N L"]) -> Int[np.ndarray, "N F"]:
    """The likeliest letter of each frame of `N` words: `PAD` for a while or not at all, then each in turn.

    Every letter has a frame at least: `F` is no less than `L`.
    """
    N, F, _ = log_probs.shape
    states = np.concatenate((np.full((N, 1), PAD), letters), axis=1)
    likely = np.take_along_axis(log_probs, states[:, None], axis=2)
    score = np.full(states.shape, -np.inf)
    score[:, :2] = likely[:, 0, :2]
    has_moved = np.zeros((N, F, states.shape[1]), bool)
    for frame in range(1, F):
        before = np.concatenate((np.full((N, 1), -np.inf), score[:, :-1]), axis=1)
        has_moved[:, frame] = before > score
        score = np.maximum(before, score) + likely[:, frame]
    state = np.full(N, states.shape[1] - 1)
    path = np.empty((N, F), np.int64)
    for frame in range(F - 1, -1, -1):
        path[:, frame] = state
        state = state - has_moved[np.arange(N), frame, state]
    return np.take_along_axis(states, path, axis=1)
