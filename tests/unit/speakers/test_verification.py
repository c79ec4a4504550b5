"""Pairs of recordings, and the equal error rate."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from paluku.speakers.verification import draw_pairs, verify


def verified(same: list[float], other: list[float]) -> tuple[float, float]:
    scores = np.array([*same, *other])
    found = verify(scores, np.arange(len(scores)) < len(same))
    return found.equal_error_rate, found.threshold


def test_what_is_told_apart_has_no_errors() -> None:
    rate, threshold = verified([0.9, 0.8, 0.7], [0.3, 0.1])
    assert rate == 0
    assert 0.3 < threshold <= 0.7


def test_one_of_four_on_the_wrong_side_each() -> None:
    assert verified([0.9, 0.8, 0.7, 0.2], [0.6, 0.4, 0.3, 0.1])[0] == pytest.approx(0.25)


def test_misses_and_alarms_meet_between_two_thresholds() -> None:
    """At .6 misses are 1/2 and alarms 0, at .5 misses 1/2 and alarms 1: they meet at alarms of 1/2."""
    assert verified([0.6, 0.1], [0.5]) == pytest.approx((0.5, 0.55))


def test_a_score_that_is_always_the_same_is_a_coin() -> None:
    assert verified([0.5] * 7, [0.5] * 3)[0] == pytest.approx(0.5)


def test_two_normal_distributions_meet_where_theory_says() -> None:
    """Two deviations apart: the normal distribution beyond one deviation, .1587."""
    random = np.random.default_rng(0)
    scores = np.concatenate((random.normal(1, 1, 20_000), random.normal(-1, 1, 20_000)))
    found = verify(scores, np.arange(40_000) < 20_000)
    assert found.equal_error_rate == pytest.approx(0.1587, abs=0.005)
    assert found.threshold == pytest.approx(0.0, abs=0.05)


def test_it_is_the_same_in_any_order_and_on_any_rising_scale() -> None:
    random = np.random.default_rng(1)
    scores, same = random.normal(size=50), random.random(50) < 0.4
    order = random.permutation(50)
    rates = [verify(scores, same), verify(scores[order], same[order]), verify(3 * scores + 1, same)]
    assert all(one.equal_error_rate == pytest.approx(two.equal_error_rate) for one, two in pairwise(rates))


def test_one_kind_of_pairs_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="2 pairs are of one speaker, 0 of two"):
        verify(np.array([0.1, 0.2]), np.array([True, True]))


CROWD = (
    [("a", f"s{n % 4}") for n in range(20)] + [("b", f"t{n % 2}") for n in range(6)] + [("c", "alone")] * 5
)


def test_pairs_are_what_they_say_and_stay_within_a_source() -> None:
    pairs = draw_pairs(CROWD, most=10)
    for first, second, same in zip(*pairs, strict=True):
        assert first != second
        assert CROWD[first][0] == CROWD[second][0] != "c"
        assert (CROWD[first] == CROWD[second]) == same
    assert Counter(CROWD[row][0] for row in pairs.first[pairs.same]) == {"a": 10, "b": 6}
    assert Counter(CROWD[row][0] for row in pairs.first[~pairs.same]) == {"a": 10, "b": 6}


def test_no_pair_comes_twice_and_speakers_take_turns() -> None:
    pairs = draw_pairs(CROWD, most=8)
    drawn = {frozenset(pair) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    assert len(drawn) == len(pairs.same)
    of_one = Counter(CROWD[row] for row in pairs.first[pairs.same] if CROWD[row][0] == "a")
    assert set(of_one.values()) == {2}


def test_the_same_seed_draws_the_same_pairs() -> None:
    once, again, other = draw_pairs(CROWD, 8, 3), draw_pairs(CROWD, 8, 3), draw_pairs(CROWD, 8, 4)
    assert all(np.array_equal(one, two) for one, two in zip(once, again, strict=True))
    assert not np.array_equal(once.first, other.first)


def test_nobody_to_compare_gives_no_pairs() -> None:
    assert len(draw_pairs([("a", "x"), ("b", "y"), ("b", "y")], 5).same) == 0
