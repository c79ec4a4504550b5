"""The MDCT against its definition and its two laws: reconstruction and energy."""

import math

import torch

from paluku.codec import mdct


def test_synthesis_of_analysis_is_the_wave_one_hop_late() -> None:
    wave = torch.randn(2, 1, 160)
    again = mdct.synthesis(16)(mdct.analysis(16)(wave))
    torch.testing.assert_close(again[..., 16:], wave[..., :-16], atol=1e-5, rtol=0)
    assert again[..., :16].abs().max() < 1e-5


def test_coefficients_keep_the_energy() -> None:
    """Parseval: the transform is orthonormal. The wave ends in silence, so that all of it is covered."""
    wave = torch.randn(1, 1, 160)
    wave[..., -16:] = 0
    energy = mdct.analysis(16)(wave).square().sum()
    torch.testing.assert_close(energy, wave.square().sum())


def test_a_tone_falls_into_its_own_bin() -> None:
    hop, bin_ = 32, 9
    frequency = math.pi / hop * (bin_ + 0.5)
    tone = torch.cos(frequency * torch.arange(hop * 40) + 0.3).view(1, 1, -1)
    energy = mdct.analysis(hop)(tone).square().mean(dim=(0, 2))
    assert int(energy.argmax()) == bin_
    assert energy[bin_ - 1 : bin_ + 2].sum() > 0.95 * energy.sum()
