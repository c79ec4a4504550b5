"""Losses on signals whose distance is known."""

import math

import pytest
import torch
from torch import Tensor

from paluku.codec.losses import (
    BandNoiseLoss,
    LoudnessLoss,
    MultiScaleMelLoss,
    TeacherLoss,
    noise_to_signal,
    si_sdr_db,
)


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


def test_an_error_counts_by_how_loud_it_is_beside_its_band() -> None:
    """A faint high tone that is missing: in energy it is nothing."""
    time_s = torch.arange(16_000) / 16_000
    low, high = torch.sin(2 * torch.pi * 200 * time_s), 0.01 * torch.sin(2 * torch.pi * 5_000 * time_s)
    target = (0.3 * low + high)[None, None]
    without = (0.3 * low)[None, None]
    loss = BandNoiseLoss(16_000, 160, 4, 20)
    assert noise_to_signal(without, target) < 2e-3
    assert loss(without, target) > 0.02
    assert loss(target, target) == 0


def test_silence_in_which_noise_is_heard_pushes_no_harder_than_speech() -> None:
    loss, noise = BandNoiseLoss(16_000, 160, 4, 20), 0.1 * torch.randn(1, 1, 6400)
    assert loss(noise, torch.zeros_like(noise)) < 10


def test_loudness_hears_what_is_added_more_than_what_is_missing() -> None:
    torch.manual_seed(0)
    time_s = torch.arange(16_000) / 16_000
    tone, hiss = (torch.sin(2 * torch.pi * 500 * time_s) * 0.2)[None, None], 0.02 * torch.randn(1, 1, 16_000)
    loss = LoudnessLoss(16_000)
    assert loss(tone + hiss, tone) > loss(tone, tone + hiss) > loss(tone, tone)


def test_a_difference_below_a_quarter_of_the_loudness_is_masked() -> None:
    wave = 0.1 * torch.randn(1, 1, 16_000)
    loss = LoudnessLoss(16_000)
    same = loss(wave, wave)
    assert loss(wave * 10 ** (0.5 / 20), wave) < same + 0.01
    assert loss(wave * 10 ** (9 / 20), wave) > same + 0.1


def test_a_pupil_is_not_asked_about_what_the_teacher_did_not_hear() -> None:
    pupil, first = TeacherLoss(6, 4), torch.randn(2, 6, 5)
    heard = torch.randn(2, 5, 4)
    heard[:, 3:] = 0
    told = pupil(first, heard)
    first[:, :, 3:] = 100
    torch.testing.assert_close(pupil(first, heard), told)
    assert 0 <= told <= 2
    assert pupil(first, torch.zeros_like(heard)) == 0
