"""The smallest real S2S model: random weights from a fixed seed, for tests of what is built around it.

The weights are several times larger than a fresh model's, so that tokens depend clearly on what came
before and on voice and style: a model near zero would say the same to everyone.
"""

import torch

from paluku.s2s.duplex import SeatConditions
from paluku.s2s.model import DepthConfig, HearingConfig, S2SConfig, S2SModel

K, V = 4, 32
CONFIG = S2SConfig(
    num_codebooks=K,
    codebook_size=V,
    dim=32,
    layers=1,
    heads=2,
    window=8,
    depth=DepthConfig(dim=16, layers=1, heads=2),
)
# Hears six frames back: two blocks, of dilations that differ.
HEARING = HearingConfig(dim=8, width=8, hidden=8, dilations=(1, 2), sounds_after=1, evidence=4, gathers=4)


def tiny_s2s(seed: int = 0) -> S2SModel:
    """In eval mode, on the CPU."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = S2SModel(CONFIG)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(10)
    return model.eval().requires_grad_(False)


def seat_conditions(model: S2SModel, *seeds: int, temperature: float = 1.0) -> SeatConditions:
    """A seat for each seed, with a voice and style of its own."""
    seed, ones = torch.tensor(seeds), torch.ones(len(seeds))
    hot, likeliest = temperature * ones, torch.full((len(seeds),), 20)
    rows = model.conditioning.rows(seed % 4, seed % 9)
    return SeatConditions(rows, seed, hot, likeliest, hot, likeliest, ones)
