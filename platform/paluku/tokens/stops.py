"""Replies that stop sooner than people do when they are talked into.

People take 120 to 400 ms to fall silent, and dialogues are rendered so. A model learns what it is shown:
for training, a reply that was cut is silent from `stop_s` after the interruption's beginning on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

FADE_S = 0.02


class Stop(NamedTuple):
    """From when to when a reply that was cut is not to be heard."""

    from_s: float
    to_s: float


def sooner(turns: Sequence[Mapping[str, Any]], stop_s: float) -> tuple[list[Mapping[str, Any]], list[Stop]]:
    """The turns, those that were cut ending `stop_s` after what cut them begins; and what falls silent.

    A cut turn keeps the words that have begun by then; where it has none that are timed, as large a share of
    its text as of its time.
    """
    begins = [
        turn["start_s"] for turn in turns if turn["role"] == "user" and turn.get("kind") == "interruption"
    ]
    kept: list[Mapping[str, Any]] = []
    stops: list[Stop] = []
    for turn in turns:
        end_s = min((at + stop_s for at in begins if turn["start_s"] < at < turn["end_s"]), default=None)
        if turn.get("kind") != "cut" or end_s is None or end_s >= turn["end_s"]:
            kept.append(turn)
            continue
        stops.append(Stop(end_s, turn["end_s"]))
        kept.append(_until(turn, end_s))
    return kept, stops


def _until(turn: Mapping[str, Any], end_s: float) -> dict[str, Any]:
    if not turn.get("words"):
        spoken = turn["text"].split()
        share = (end_s - turn["start_s"]) / (turn["end_s"] - turn["start_s"])
        return {**turn, "end_s": end_s, "text": " ".join(spoken[: math.ceil(share * len(spoken))])}
    words = [word for word in turn["words"] if word["start_s"] < end_s]
    words = [{**word, "end_s": min(word["end_s"], end_s)} for word in words]
    return {**turn, "end_s": end_s, "words": words, "text": _text_of(turn["text"], words)}


def _text_of(text: str, words: Sequence[Mapping[str, Any]]) -> str:
    """The text up to the end of the last word; all of it where the words are not found in it."""
    after = 0
    for word in words:
        first = text.find(word["text"], after)
        if first < 0:
            return text
        after = first + len(word["text"])
    return text[:after]


def silenced(wave: np.ndarray, stops: Sequence[Stop], rate_hz: int) -> np.ndarray:
    """The reply's channel `[S]`, faded out over 20 ms before each stop."""
    result = wave.copy()
    for from_s, to_s in stops:
        silent, last = round(from_s * rate_hz), min(round(to_s * rate_hz), len(wave))
        fade = min(round(FADE_S * rate_hz), silent)
        result[silent - fade : silent] *= np.linspace(1.0, 0.0, fade, dtype=wave.dtype)
        result[silent:last] = 0.0
    return result
