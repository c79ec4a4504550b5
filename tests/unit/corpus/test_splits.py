import pytest
from pydantic import ValidationError

from paluku.corpus.splits import SplitShares, fraction, split_of

SPEAKERS = [f"speaker-{number}" for number in range(4000)]


def test_a_split_is_a_property_of_the_key_alone() -> None:
    shares = SplitShares()
    first = [split_of(key, shares, seed=1) for key in SPEAKERS]
    assert [split_of(key, shares, seed=1) for key in reversed(SPEAKERS)] == first[::-1]


def test_the_shares_are_met() -> None:
    # 4,000 draws at p = 0.1: a standard deviation of 19; five of them are 95.
    splits = [split_of(key, SplitShares(dev=0.1, test=0.2), seed=3) for key in SPEAKERS]
    assert abs(splits.count("dev") - 400) < 95
    assert abs(splits.count("test") - 800) < 130


def test_growing_the_dev_share_moves_nothing_from_dev_to_train() -> None:
    small, large = SplitShares(dev=0.1, test=0.0), SplitShares(dev=0.3, test=0.0)
    dev = {key for key in SPEAKERS if split_of(key, small, 0) == "dev"}
    assert dev < {key for key in SPEAKERS if split_of(key, large, 0) == "dev"}


def test_another_seed_draws_anew() -> None:
    shares = SplitShares(dev=0.5, test=0.0)
    same = sum(split_of(key, shares, 0) == split_of(key, shares, 1) for key in SPEAKERS)
    assert abs(same - 2000) < 160


def test_golden_values() -> None:
    # A corpus built today and one built by a later version must agree on who is held out.
    assert fraction("te_commonvoice/cv_6743f592", 0) == 0.3241818627904486
    assert min(fraction(key, 0) for key in SPEAKERS) >= 0
    assert max(fraction(key, 0) for key in SPEAKERS) < 1


def test_shares_that_leave_no_training_data_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave nothing to train on"):
        SplitShares(dev=0.5, test=0.5)
