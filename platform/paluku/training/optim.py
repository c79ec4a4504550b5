"""What the loops' optimisers have in common."""

from typing import Any

from torch import nn


def decayed_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What of a module learns, as groups for AdamW: matrices with decay, vectors without.

    Norms and biases are not decayed: towards 0 they would mute their layer, not simplify it.
    """
    learned = [weight for weight in module.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in learned if weight.dim() > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in learned if weight.dim() <= 1], "weight_decay": 0.0},
    ]
