import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.report.histogram import Histogram, Scale

SCALE = Scale("Loudness", "LUFS", -60, 0, 120)
values = st.lists(st.floats(-60, 0, exclude_max=True), min_size=1, max_size=200)


def counted(values: list[float]) -> Histogram:
    histogram = Histogram(SCALE)
    histogram.add(np.array(values))
    return histogram


@given(values, st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_a_quantile_is_right_to_one_bin(numbers: list[float], share: float) -> None:
    exact = np.quantile(numbers, share, method="inverted_cdf")
    assert abs(counted(numbers).quantile(share) - exact) <= SCALE.width + 1e-9


@given(values)
def test_the_bounds_and_the_mean_are_exact(numbers: list[float]) -> None:
    histogram = counted(numbers)
    assert histogram.quantile(0) == min(numbers)
    assert histogram.quantile(1) == max(numbers)
    assert histogram.mean == pytest.approx(np.mean(numbers), abs=1e-9)


@given(values, values)
def test_counting_in_two_parts_is_counting_at_once(first: list[float], then: list[float]) -> None:
    parts, whole = counted(first), counted(first + then)
    parts.add(np.array(then))
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert parts.quantile(0.5) == whole.quantile(0.5)


@given(values, st.integers(1, 60))
def test_bars_hold_every_value_and_are_no_more_than_asked_for(numbers: list[float], most: int) -> None:
    low, width, counts = counted(numbers).bars(most)
    assert counts.sum() == len(numbers)
    assert len(counts) <= most
    assert low <= min(numbers)
    assert low + width * len(counts) >= max(numbers)


def test_what_lies_outside_the_scale_is_counted_and_keeps_its_bounds() -> None:
    histogram = counted([-80.0, -30.0, 12.0])
    assert len(histogram) == 3
    assert (histogram.quantile(0), histogram.quantile(1)) == (-80.0, 12.0)


def test_what_is_no_number_is_not_counted() -> None:
    histogram = counted([np.nan, -np.inf, -10.0])
    assert len(histogram) == 1
    assert histogram.quantile(0.5) == -10.0


def test_nothing_counted_has_no_median() -> None:
    with pytest.raises(ValueError, match="no values of 'Loudness' were counted"):
        Histogram(SCALE).quantile(0.5)
