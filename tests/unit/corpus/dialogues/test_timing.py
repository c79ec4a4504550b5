import statistics

import numpy as np
import pytest
from pydantic import ValidationError

from paluku.corpus.dialogues.timing import Gaps, Timing
from paluku.corpus.splits import generator


def drawn(gaps: Gaps, count: int = 20_000) -> list[float]:
    random = np.random.default_rng(0)
    return [gaps.draw(random) for _ in range(count)]


def test_gaps_are_those_of_people() -> None:
    # Stivers et al. 2009: median 100, mean 208 ms over ten languages; Heldner & Edlund 2010: 40 % overlap.
    gaps = drawn(Gaps())
    assert 0.10 <= statistics.median(gaps) <= 0.20
    assert 0.17 <= statistics.mean(gaps) <= 0.25
    assert 0.2 <= sum(gap < 0 for gap in gaps) / len(gaps) <= 0.45


@pytest.mark.parametrize("median_s", [0.0, 0.1, 0.2, 1.0])
def test_the_median_is_the_stated_one(median_s: float) -> None:
    gaps = drawn(Gaps(median_s=median_s, least_s=-0.2, most_s=1.2))
    assert statistics.median(gaps) == pytest.approx(median_s, abs=0.015)
    assert min(gaps) == -0.2
    assert max(gaps) == 1.2


def test_without_spread_every_gap_is_the_median() -> None:
    assert drawn(Gaps(median_s=0.12, spread=0.0), 5) == pytest.approx([0.12] * 5)


def test_a_generator_depends_on_its_name_and_seed() -> None:
    numbers = {generator(name, seed).random() for name in ("a", "b") for seed in (0, 1)}
    assert len(numbers) == 4
    assert generator("a", 0).random() in numbers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lead_s": (0.5, 0.2)}, "lead_s"),
        ({"pause_s": (-0.1, 0.2)}, "pause_s"),
        ({"interruption_within": (0.3, 0.95)}, "at most 0.9"),
        ({"reaction_s": (0.01, 0.3)}, "fade"),
        ({"backchannels": ()}, "need a text"),
        ({"gaps": {"median_s": 1.9, "most_s": 1.0}}, "median_s 1.9"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Timing.model_validate(settings)
