"""Are two recordings of one speaker? Pairs to ask that of, and the share of wrong answers."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, combinations, islice, zip_longest
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Of pairs of different speakers that have been drawn before; a small corpus runs out of new ones.
MOST_TRIES = 20


class Pairs(NamedTuple):
    """Numbers of the recordings that are compared, and whether one speaker speaks in both."""

    first: Int[np.ndarray, "P"]
    second: Int[np.ndarray, "P"]
    same: Bool[np.ndarray, "P"]

    def renumbered(self) -> tuple[list[int], "Pairs"]:
        """Which recordings occur, and the pairs by their places in that list."""
        rows = sorted({*self.first.tolist(), *self.second.tolist()})
        place = {row: place for place, row in enumerate(rows)}
        first, second = (
            np.array([place[row] for row in side.tolist()]) for side in (self.first, self.second)
        )
        return rows, Pairs(first, second, self.same)


class Verified(NamedTuple):
    """At `threshold` (a score) as many true pairs are refused as false ones are taken: that share."""

    equal_error_rate: float
    threshold: float


def draw_pairs(speakers: Sequence[tuple[str, str]], most: int, seed: int = 0) -> Pairs:
    """Pairs of recordings, whose `(source, speaker)` are given; the same ones for the same list and seed.

    Up to `most` of one speaker in each source, speakers taking turns; and as many of two speakers of that
    source: two sources are told apart by their microphones. Sources with one speaker are left out.
    """
    by_source: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, (source, speaker) in enumerate(speakers):
        by_source[source][speaker].append(number)
    same: list[tuple[int, int]] = []
    other: list[tuple[int, int]] = []
    for place, source in enumerate(sorted(by_source)):
        recordings = [by_source[source][speaker] for speaker in sorted(by_source[source])]
        if len(recordings) > 1:
            random = np.random.default_rng((seed, place))
            same += (found := _of_one(recordings, most, random))
            other += _of_two(recordings, len(found), random)
    drawn = np.array([*same, *other], dtype=np.int64).reshape(-1, 2)
    return Pairs(drawn[:, 0], drawn[:, 1], np.arange(len(drawn)) < len(same))


def _of_one(recordings: list[list[int]], most: int, random: np.random.Generator) -> list[tuple[int, int]]:
    each = [list(combinations(numbers, 2)) for numbers in recordings]
    for pairs in each:
        random.shuffle(pairs)
    turns = chain.from_iterable(zip_longest(*each))
    return list(islice((pair for pair in turns if pair is not None), most))


def _of_two(recordings: list[list[int]], count: int, random: np.random.Generator) -> list[tuple[int, int]]:
    found: dict[tuple[int, int], None] = {}  # a set in the order of drawing
    for _ in range(count * MOST_TRIES):
        if len(found) == count:
            break
        one, two = sorted(random.choice(len(recordings), size=2, replace=False))
        found[int(random.choice(recordings[one])), int(random.choice(recordings[two]))] = None
    return list(found)


def verify(scores: Float[np.ndarray, "P"], same: Bool[np.ndarray, "P"]) -> Verified:
    """The equal error rate of scores, higher for pairs that are held to be of one speaker.

    Between two thresholds, misses and false alarms are joined by straight lines.

    Raises:
        ValueError: when there are no pairs of one speaker, or none of two.
    """
    targets, others = int(same.sum()), int((~same).sum())
    if not targets or not others:
        raise ValueError(f"{targets} pairs are of one speaker, {others} of two: both are needed")
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # the last one of each score
    taken = same[order]
    misses = np.concatenate(([1.0], 1 - np.cumsum(taken)[ends] / targets))
    alarms = np.concatenate(([0.0], np.cumsum(~taken)[ends] / others))
    thresholds = np.concatenate((scores[order[:1]], scores[order[ends]]))
    after = int(np.argmax(alarms >= misses))
    below, above = (misses - alarms)[after - 1], (alarms - misses)[after]
    share = below / (below + above)
    between = [
        series[after - 1] + share * (series[after] - series[after - 1]) for series in (alarms, thresholds)
    ]
    return Verified(float(between[0]), float(between[1]))
