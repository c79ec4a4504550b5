"""Where a recording is cut into utterances: at its pauses, from the probabilities of a speech detector."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from pydantic import Field, model_validator

from paluku.config import Config

# A quiet stretch as short as the closure of a stop (a geminate ట్ట lasts up to 150 ms, but a detector of
# 32 ms windows bridges it) is no place to cut; from here on it is.
SHORTEST_PAUSE_S = 0.08

# Out of a very quiet silence a detector with memory may take this long to notice a loud voice. What comes
# directly before it at no less than a hundredth of its power is its onset.
LONGEST_ONSET_S = 0.4
ONSET_SHARE = 10 ** (-20 / 10)


class SegmentSettings(Config):
    """How utterances are cut. A pause of `pause_s` ends one; what is still too long is cut at less."""

    speech_threshold: float = Field(default=0.5, gt=0, lt=1)  # speech begins at this probability
    silence_threshold: float = Field(default=0.35, gt=0, lt=1)  # and ends below this one (Silero's own pair)
    min_speech_s: float = Field(default=0.1, ge=0)  # less, standing alone, is a click
    pause_s: float = Field(default=0.7, ge=SHORTEST_PAUSE_S)
    margin_s: float = Field(default=0.2, ge=0)  # kept before and after: breath, soft onsets, plosive bursts
    min_s: float = Field(default=1.0, gt=0)
    max_s: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> "SegmentSettings":
        if self.silence_threshold > self.speech_threshold:
            raise ValueError("silence_threshold must not exceed speech_threshold")
        if self.max_s < 4 * (self.min_s + self.margin_s):
            # A cut in the middle half of what is too long then leaves no side too short.
            raise ValueError("max_s must be at least 4 times min_s + margin_s")
        return self


class Stretch(NamedTuple):
    """A stretch of time."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.end_s - self.start_s


class Segment(NamedTuple):
    """An utterance to be; `is_cut_in_speech`: it ends where no pause could be found."""

    start_s: float
    end_s: float
    is_cut_in_speech: bool = False


# Answers where it is quietest between two instants of the recording.
Quietest = Callable[[float, float], float]


class _Span(NamedTuple):
    """Speech between two cuts, and how far its segment may reach into the silence at either side."""

    stretches: Sequence[Stretch]
    room_before_s: float
    room_after_s: float
    is_cut_in_speech: bool = False

    @property
    def start_s(self) -> float:
        return self.stretches[0].start_s

    @property
    def end_s(self) -> float:
        return self.stretches[-1].end_s


def speech_stretches(
    probabilities: np.ndarray, window_s: float, duration_s: float, settings: SegmentSettings
) -> list[Stretch]:
    """Where speech is: stretches in order, a pause of `SHORTEST_PAUSE_S` or more between any two.

    Hysteresis: speech begins in a window at `speech_threshold` and lasts while windows (`[W]`, `window_s`
    each) stay at `silence_threshold`. Stretches of less than `min_speech_s` are left out.
    """
    heard: list[Stretch] = []
    for first, end in _runs(probabilities >= settings.silence_threshold):
        above = np.flatnonzero(probabilities[first:end] >= settings.speech_threshold)
        if not len(above):
            continue
        found = Stretch(min((first + int(above[0])) * window_s, duration_s), min(end * window_s, duration_s))
        if heard and found.start_s - heard[-1].end_s < SHORTEST_PAUSE_S:
            found = Stretch(heard.pop().start_s, found.end_s)
        heard.append(found)
    return [stretch for stretch in heard if stretch.duration_s >= settings.min_speech_s]


def with_onsets(stretches: Sequence[Stretch], powers: np.ndarray, window_s: float) -> list[Stretch]:
    """The stretches, each begun earlier by the loud windows that directly lead to it.

    `powers` `[W]` are the mean powers of the detector's windows. Two stretches that meet become one.
    """
    earlier: list[Stretch] = []
    for stretch in stretches:
        first, end = round(stretch.start_s / window_s), round(stretch.end_s / window_s)
        least = ONSET_SHARE * float(powers[first:end].mean())
        bound = max(first - int(LONGEST_ONSET_S / window_s), 0)
        quiet = np.flatnonzero(powers[bound:first] < least)
        start_s = (bound + (int(quiet[-1]) + 1 if len(quiet) else 0)) * window_s
        found = Stretch(min(start_s, stretch.start_s), stretch.end_s)
        if earlier and found.start_s - earlier[-1].end_s < SHORTEST_PAUSE_S:
            found = Stretch(earlier.pop().start_s, found.end_s)
        earlier.append(found)
    return earlier


def covered(stretches: Sequence[Stretch], window_s: float, num_windows: int) -> np.ndarray:
    """Which windows `[W]` lie in a stretch: the middle of each decides."""
    is_speech = np.zeros(num_windows, bool)
    for stretch in stretches:
        is_speech[round(stretch.start_s / window_s) : round(stretch.end_s / window_s)] = True
    return is_speech


def cut(
    stretches: Sequence[Stretch], duration_s: float, settings: SegmentSettings, quietest: Quietest
) -> list[Segment]:
    """Utterances of a recording of `duration_s`, in order and disjoint, that hold all of `stretches`.

    Longest pause first: a span is cut at its longest pause while that is `pause_s` or more and leaves
    `min_s` on both sides. What is longer than `max_s` (margins included) is cut at its longest pause
    whatever it leaves, and, only where it has none, at its quietest place. Each segment then keeps
    `margin_s` of the silence around it, or as much more as makes it `min_s`, up to half of a pause.
    """
    if not stretches:
        return []
    whole = _Span(stretches, stretches[0].start_s, duration_s - stretches[-1].end_s)
    finished: list[Segment] = []
    waiting = [whole]
    while waiting:
        halves = _halves(waiting[-1], settings, quietest)
        if halves is None:
            finished.append(_with_margins(waiting.pop(), settings))
        else:
            waiting[-1:] = halves[::-1]  # the earlier one is taken next
    return finished


def trimmed(stretches: Sequence[Stretch], duration_s: float, settings: SegmentSettings) -> Segment:
    """The whole of a recording that has speech, without what exceeds the margins at its ends."""
    assert stretches, "a recording without speech cannot be trimmed"
    span = _Span(stretches, stretches[0].start_s, duration_s - stretches[-1].end_s)
    return _with_margins(span, settings)


def _runs(mask: np.ndarray) -> Iterator[tuple[int, int]]:
    """First index and end of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).tolist()
    yield from zip(edges[::2], edges[1::2], strict=True)


def _halves(span: _Span, settings: SegmentSettings, quietest: Quietest) -> tuple[_Span, _Span] | None:
    """The span in two, or none when it is fine as it is."""
    is_long = span.end_s - span.start_s + 2 * settings.margin_s > settings.max_s
    pauses = _longest_first(span)
    for index, pause_s in pauses:
        if not is_long and pause_s < settings.pause_s:
            return None
        halves = _at_pause(span, index, pause_s)
        if all(_reach_s(half) >= settings.min_s for half in halves):
            return halves
    if not is_long:
        return None
    return _at_pause(span, *pauses[0]) if pauses else _in_speech(span, quietest)


def _longest_first(span: _Span) -> list[tuple[int, float]]:
    """Index of the stretch after each pause, and the pause's length; the first of equals first."""
    pauses = [(i + 1, b.start_s - a.end_s) for i, (a, b) in enumerate(pairwise(span.stretches))]
    return sorted(pauses, key=lambda pause: -pause[1])


def _reach_s(span: _Span) -> float:
    return span.room_before_s + span.end_s - span.start_s + span.room_after_s


def _at_pause(span: _Span, index: int, pause_s: float) -> tuple[_Span, _Span]:
    before = _Span(span.stretches[:index], span.room_before_s, pause_s / 2)
    return before, span._replace(stretches=span.stretches[index:], room_before_s=pause_s / 2)


def _in_speech(span: _Span, quietest: Quietest) -> tuple[_Span, _Span]:
    (whole,) = span.stretches
    quarter_s = whole.duration_s / 4
    place_s = quietest(whole.start_s + quarter_s, whole.end_s - quarter_s)
    before = _Span([Stretch(whole.start_s, place_s)], span.room_before_s, 0.0, is_cut_in_speech=True)
    return before, span._replace(stretches=[Stretch(place_s, whole.end_s)], room_before_s=0.0)


def _with_margins(span: _Span, settings: SegmentSettings) -> Segment:
    lacking_s = max(settings.min_s - (span.end_s - span.start_s), 0.0)
    before_s = min(max(settings.margin_s, lacking_s / 2), span.room_before_s)
    after_s = min(max(settings.margin_s, lacking_s - before_s), span.room_after_s)
    before_s = min(max(before_s, lacking_s - after_s), span.room_before_s)
    return Segment(span.start_s - before_s, span.end_s + after_s, span.is_cut_in_speech)
