"""Where each word of a text lies in a wave: the text's words, and an estimate where no engine tells.

A word here is what stands between blanks, punctuation included, so that the words joined by blanks
give the text back; a sign that stands alone ("–") belongs to the word before it.
"""

import itertools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paluku.corpus.voices.levels import WINDOW_S, audible, speech_bounds
from paluku.corpus.voices.port import Word

PAUSE_MARKS = ",.?!;:।॥…"

# Relative lengths. Telugu's long vowels last about twice its short ones (Krishnamurti & Gwynn 1985, A
# Grammar of Modern Telugu, ch. 1); a digit is read as a word of three syllables.
_LONG = frozenset("ాీూేోైౌఆఈఊఏఓఐఔ")
_CONSONANT, _VOWEL, _LONG_VOWEL, _DIGIT, _OTHER = 1.0, 1.0, 2.0, 6.0, 1.0
_VIRAMA = "్"
_FIRST_CONSONANT, _LAST_CONSONANT = "క", "హ"
_PAUSE = 3.0

# A silence shorter than this is a stop's closure or a geminate.
MIN_PAUSE_S = 0.08


class Token(NamedTuple):
    """A word in its text; `start` and `end` count characters."""

    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """The words of a text in order; none when it holds no letter and no digit."""
    found: list[Token] = []
    for token in _blank_separated(text):
        if found and not _is_spoken(token.text):
            token = Token(f"{found[-1].text} {token.text}", found.pop().start, token.end)
        elif len(found) == 1 and not _is_spoken(found[0].text):  # a sign that opens the text
            token = Token(f"{found[0].text} {token.text}", found.pop().start, token.end)
        found.append(token)
    return found if any(_is_spoken(token.text) for token in found) else []


def _blank_separated(text: str) -> list[Token]:
    found, at = [], 0
    for part in text.split():
        at = text.index(part, at)
        found.append(Token(part, at, at + len(part)))
        at += len(part)
    return found


def _is_spoken(text: str) -> bool:
    return any(unicodedata.category(character)[0] in "LN" for character in text)


def ends_phrase(word: str) -> bool:
    """Whether punctuation that asks for a pause closes the word."""
    return word.rstrip("\"')]”’ –—-")[-1:] in tuple(PAUSE_MARKS)


def weight(word: str) -> float:
    """How long a word lasts beside others, from its letters."""
    return max(1.0, sum(_letter(here, then) for here, then in itertools.pairwise(f"{word} ")))


def _letter(here: str, then: str) -> float:
    if here in _LONG:
        return _LONG_VOWEL
    if _FIRST_CONSONANT <= here <= _LAST_CONSONANT:
        inherent = not (unicodedata.category(then)[0] == "M" and then not in "ంఃఁ") and then != _VIRAMA
        return _CONSONANT + (_VOWEL if inherent else 0.0)
    if unicodedata.category(here) == "Nd":
        return _DIGIT
    if here == _VIRAMA or unicodedata.category(here)[0] not in "LM":
        return 0.0
    return _OTHER


def estimate(text: str, wave: np.ndarray, rate_hz: int) -> tuple[Word, ...]:
    """Words of a text in the wave `[S]` that says it, from its silences and the letters alone.

    A phrase (up to punctuation) lies between two silences where the wave has enough of them, and is
    shared among its words by `weight`.
    """
    spoken = tokens(text)
    if not spoken:
        return ()
    phrases = _phrases(spoken)
    bounds = speech_bounds(wave, rate_hz)
    silences = _longest_silences(wave, rate_hz, len(phrases) - 1)
    if len(silences) < len(phrases) - 1:
        return tuple(_shared(spoken, bounds.start / rate_hz, bounds.end / rate_hz, _PAUSE))
    edges = [bounds.start / rate_hz, *itertools.chain(*silences), bounds.end / rate_hz]
    spans = zip(edges[::2], edges[1::2], strict=True)
    placed = (_shared(phrase, *span, 0.0) for phrase, span in zip(phrases, spans, strict=True))
    return tuple(itertools.chain(*placed))


def _phrases(spoken: Sequence[Token]) -> list[list[Token]]:
    phrases: list[list[Token]] = [[]]
    for token in spoken:
        phrases[-1].append(token)
        if ends_phrase(token.text):
            phrases.append([])
    return [phrase for phrase in phrases if phrase]


def _longest_silences(wave: np.ndarray, rate_hz: int, count: int) -> list[tuple[float, float]]:
    """The `count` longest inner silences in seconds, in the wave's order; fewer when it has fewer."""
    heard = np.flatnonzero(audible(wave, rate_hz))
    inner = [
        (float(before + 1) * WINDOW_S, float(after) * WINDOW_S)
        for before, after in itertools.pairwise(heard.tolist())
        if (after - before - 1) * WINDOW_S >= MIN_PAUSE_S
    ]
    return sorted(sorted(inner, key=lambda span: span[0] - span[1])[:count])


def _shared(spoken: Sequence[Token], start_s: float, end_s: float, pause: float) -> list[Word]:
    """The stretch divided by weight; `pause` is what lies after punctuation, the last word's excepted."""
    pauses = [pause if ends_phrase(token.text) else 0.0 for token in spoken[:-1]] + [0.0]
    weights = [weight(token.text) for token in spoken]
    scale = (end_s - start_s) / (sum(weights) + sum(pauses))
    words, at = [], start_s
    for token, length, after in zip(spoken, weights, pauses, strict=True):
        words.append(Word(token.text, at, at + length * scale))
        at += (length + after) * scale
    return words


def from_starts(
    spoken: Sequence[Token], starts_s: Sequence[float | None], wave: np.ndarray, rate_hz: int
) -> tuple[Word, ...]:
    """Words that begin where an engine says; each is narrowed to what is heard before the next begins.

    A word without a start (the engine read it together with the one before) shares that one's time.
    Without words there is nothing to place.
    """
    assert len(spoken) == len(starts_s), f"{len(spoken)} words, {len(starts_s)} starts"
    if not spoken:
        return ()
    heard = audible(wave, rate_hz)
    groups: list[tuple[float, list[Token]]] = []
    for token, start_s in zip(spoken, starts_s, strict=True):
        if start_s is None and groups:
            groups[-1][1].append(token)
        else:
            groups.append((start_s or 0.0, [token]))
    limits = [start_s for start_s, _ in groups[1:]] + [len(wave) / rate_hz]
    placed = (
        _shared(group, *_sounding(heard, start_s, limit_s), 0.0)
        for (start_s, group), limit_s in zip(groups, limits, strict=True)
    )
    return tuple(itertools.chain(*placed))


def _sounding(heard: np.ndarray, start_s: float, limit_s: float) -> tuple[float, float]:
    """A stretch without silence at its ends; as it is when it is silent throughout."""
    first, last = int(start_s / WINDOW_S), int(limit_s / WINDOW_S)
    windows = first + np.flatnonzero(heard[first:last])
    if not len(windows):
        return start_s, limit_s
    start_s = max(start_s, float(windows[0]) * WINDOW_S)
    return start_s, max(start_s, min(limit_s, float(windows[-1] + 1) * WINDOW_S))
