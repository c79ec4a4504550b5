"""What the loops' optimisers have in common."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paluku.errors import TrainingError


def decayed_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What of a module learns, as groups for AdamW: matrices with decay, vectors without.

    Norms and biases are not decayed: towards 0 they would mute their layer, not simplify it.
    """
    learned = [weight for weight in module.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in learned if weight.dim() > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in learned if weight.dim() <= 1], "weight_decay": 0.0},
    ]


# In a corpus of recordings.
BROKEN_AUDIO = ", or look for broken audio in the corpus,"


def check_finite(norm: Tensor, step: int, losses: Mapping[str, Tensor], suspect: str = "") -> None:
    """Before an update: `step` is the number it would get, `suspect` what else may be looked at.

    Raises:
        TrainingError: when the gradient's norm is not finite.
    """
    if not torch.isfinite(norm):
        values = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
        raise TrainingError(
            f"step {step}: the gradient is {norm.item()} ({values}); "
            f"lower learning_rate{suspect} and resume from the last checkpoint"
        )
