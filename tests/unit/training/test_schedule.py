"""Learning rates at the places where they are known."""

import pytest
import torch

from paluku.training.schedule import set_learning_rate, warmup_cosine


def test_it_climbs_to_the_peak_and_falls_to_the_floor() -> None:
    shares = [warmup_cosine(step, steps=110, warmup_steps=10, floor=0.1) for step in range(120)]
    assert shares[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert shares[10] == pytest.approx(1.0)
    assert shares[60] == pytest.approx(0.55)  # half way down
    assert shares[110:] == pytest.approx([0.1] * 10)
    assert shares[10:110] == sorted(shares[10:110], reverse=True)


def test_without_warm_up_it_begins_at_the_peak() -> None:
    assert warmup_cosine(0, steps=5, warmup_steps=0) == 1.0


def test_every_group_gets_the_rate() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimiser = torch.optim.SGD(groups, lr=1.0)
    set_learning_rate(optimiser, 0.25)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]
