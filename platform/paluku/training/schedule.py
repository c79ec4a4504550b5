"""Learning rates as pure functions of the step, so that a resumed run needs no scheduler state."""

import math

from torch.optim import Optimizer


def warmup_cosine(step: int, steps: int, warmup_steps: int, floor: float = 0.05) -> float:
    """The share of the peak learning rate at `step` (0-based) of `steps`.

    A linear climb over `warmup_steps`, then half a cosine down to `floor`, where it stays
    (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimiser: Optimizer, learning_rate: float) -> None:
    """Give every parameter group this rate, before its step."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
