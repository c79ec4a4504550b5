"""The moving average of a module's weights: what is evaluated and shipped (Karras et al. 2018, section 4.1).

Buffers (codebooks, which are moving averages already, and counters) are kept as they are. Weights that do
not learn are not copied: a large model with small adapters is held once. Of a model that is sharded over
workers (FSDP2) each averages its own part.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from paluku.errors import CheckpointError


def warm_decay(updates: int, decay: float) -> float:
    """The decay of the update after `updates` ones: min(decay, (1 + n) / (10 + n)).

    A fresh average forgets its random start fast (TensorFlow's `ExponentialMovingAverage`, `num_updates`).
    """
    return min(decay, (1 + updates) / (10 + updates))


class WeightAverage:
    """The average of one module's weights; begins as a copy of them. Give the bare module, not its DDP."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        assert 0 <= decay < 1, f"decay is {decay}"
        self.decay = decay
        self.updates = 0
        named = dict(module.named_parameters(remove_duplicate=False))
        self._learned = [name for name, weight in named.items() if weight.requires_grad]
        frozen = {name for name, weight in named.items() if not weight.requires_grad}
        self._held = {
            name: value.detach() if name in frozen else value.detach().clone()
            for name, value in module.state_dict().items()
        }
        self._buffers = self._held.keys() - set(named)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's weights, and take its buffers; after each step of the optimiser."""
        now, held = module.state_dict(), self._held
        share = 1 - warm_decay(self.updates, self.decay)
        # One fused kernel for all weights, as torch.optim.swa_utils does.
        averages, weights = ([_here(state[name]) for name in self._learned] for state in (held, now))
        torch._foreach_lerp_(averages, weights, share)  # pyright: ignore[reportPrivateImportUsage]
        for name in self._buffers:
            held[name].copy_(now[name])
        self.updates += 1

    @torch.no_grad()
    def copy_from(self, module: nn.Module) -> None:
        """Begin again from the module's weights: they were set, not learned."""
        for name, value in module.state_dict().items():
            self._held[name].copy_(value)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """What a checkpoint serves: averaged weights and buffers, by their names in the module."""
        return self._held

    def copy_to(self, module: nn.Module) -> None:
        """Overwrite another module of the same kind with averaged weights and buffers."""
        module.load_state_dict(self._held)

    @contextmanager
    def averaged(self, module: nn.Module) -> Iterator[None]:
        """Inside, `module` has the averaged weights; afterwards its own again, bit for bit.

        Its buffers stay its own throughout.
        """
        named = dict(module.named_parameters(remove_duplicate=False))
        places = {name: named[name] for name in self._learned}
        own = {name: place.detach().clone() for name, place in places.items()}
        try:
            _write(places, self._held)
            yield
        finally:
            _write(places, own)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of updates, as tensors and plain values."""
        return {"updates": self.updates, "weights": {n: value.clone() for n, value in self._held.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. Raises `CheckpointError` when it is of another module."""
        saved: Mapping[str, Tensor] = state["weights"]
        other = [n for n, v in self._held.items() if n not in saved or saved[n].shape != v.shape]
        if other := sorted(other + [n for n in saved if n not in self._held]):
            raise CheckpointError(
                f"the averaged weights are of another model (they differ in {', '.join(other[:3])}); "
                "resume with the configuration they were made with"
            )
        for name, value in self._held.items():
            value.copy_(saved[name])
        self.updates = int(state["updates"])


def _here(value: Tensor) -> Tensor:
    """This worker's part of a sharded tensor, which shares its memory; any other tensor itself."""
    return value.to_local() if isinstance(value, DTensor) else value


@torch.no_grad()
def _write(places: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, place in places.items():
        place.copy_(values[name])
