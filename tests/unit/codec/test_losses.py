"""Losses on signals whose distance is known."""

import math

import pytest
import torch
from torch import Tensor

from paluku.codec.losses import MultiScaleMelLoss, noise_to_signal, si_sdr_db


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(0)) * 0.1


def test_noise_to_signal_of_silence_is_one_and_of_half_the_wave_a_quarter(noise: Tensor) -> None:
    assert float(noise_to_signal(torch.zeros_like(noise), noise, floor=0.0)) == pytest.approx(1)
    assert float(noise_to_signal(noise / 2, noise, floor=0.0)) == pytest.approx(0.25)


def test_noise_to_signal_weighs_quiet_and_loud_examples_alike(noise: Tensor) -> None:
    target = noise * torch.tensor([1.0, 0.01])[:, None, None]
    spoiled = target.clone()
    spoiled[1] = 0
    assert float(noise_to_signal(spoiled, target, floor=0.0)) == pytest.approx(0.5)


def test_si_sdr_is_the_ratio_of_orthogonal_parts_at_any_scale() -> None:
    time = torch.arange(8000) / 8000 * 2 * math.pi
    target, noise = torch.sin(50 * time), torch.cos(50 * time)
    estimate = torch.stack([target + noise / 10, 7 * (target + noise / 100)])[:, None]
    ratio = si_sdr_db(estimate, torch.stack([target, target])[:, None])
    torch.testing.assert_close(ratio, torch.tensor([20.0, 40.0]), atol=0.05, rtol=0)


def test_mel_distance_of_a_gain_is_its_logarithm(noise: Tensor) -> None:
    """Loud noise lies far above the floor, so doubling it adds ln 2 to every band."""
    loss = MultiScaleMelLoss(16_000)
    assert float(loss(noise * 20, noise * 10)) == pytest.approx(math.log(2), rel=0.01)
    assert float(loss(noise, noise)) == 0


def test_mel_gradient_is_finite_at_silence() -> None:
    silence = torch.zeros(1, 1, 8000, requires_grad=True)
    MultiScaleMelLoss(16_000)(silence, torch.randn(1, 1, 8000)).backward()
    assert silence.grad is not None
    assert torch.isfinite(silence.grad).all()
