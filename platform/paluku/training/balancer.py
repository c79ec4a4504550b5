"""Weighs losses by what they do to the decoded wave, not by their values.

Each loss's gradient with respect to the wave is divided by the running mean of its norm and multiplied by
its share of the weights: a weight of 2 beside one of 1 then means two thirds of the push, whatever the
scales of the losses (EnCodec, Défossez et al. 2022, section 3.4, "balancer").
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from paluku.config import Config
from paluku.errors import CheckpointError
from paluku.shapes import MonoWave
from paluku.training.world import World, sum_over_world

NORM_FLOOR = 1e-12  # a loss whose gradient has always been zero stays without effect


class BalancerConfig(Config):
    """How norms are averaged, and what their weighted sum is brought to."""

    decay: float = Field(default=0.999, ge=0, lt=1)  # EnCodec's
    total_norm: float = Field(default=1.0, gt=0)  # EnCodec's R


class Balanced(NamedTuple):
    """`gradient` goes to `decoded.backward(gradient)`; `norms` are the losses' own, before balancing."""

    gradient: MonoWave
    norms: dict[str, Float[Tensor, ""]]  # averaged over examples and workers; on the device, for logging


class Balancer:
    """Running means of gradient norms, one for each named loss; the same on every worker.

    The norm of a gradient is that of one example's own loss, averaged over examples: losses are means over
    the batch, so the gradient is taken times `B`. Neither the size of the batch nor the number of workers
    changes what comes out. Norms stay on the device: nothing here waits for a GPU.
    """

    def __init__(self, weights: Mapping[str, float], config: BalancerConfig, world: World) -> None:
        assert min(weights.values(), default=0.0) > 0, f"weights {dict(weights)} must be above 0"
        self.config, self.world = config, world
        self.weights = dict(weights)
        # Numerator and denominator of the mean: a mean of few norms is not drawn towards zero.
        self._sums = torch.zeros(len(weights), device=world.device)
        self._counts = torch.zeros(len(weights), device=world.device)

    def balance(self, losses: Mapping[str, Float[Tensor, ""]], decoded: MonoWave) -> Balanced:
        """One gradient `[B, 1, S]` from scalar losses that depend on `decoded`; counts their norms.

        `losses` may leave out names (adversarial ones at the start): shares are of the given ones' weights.
        Back-propagate it with what does not go through the wave in one pass, as DDP wants:
        `torch.autograd.backward([decoded, commitment], [balanced.gradient, None])`.
        """
        names = [name for name in self.weights if name in losses]
        assert len(names) == len(losses) > 0, f"losses {list(losses)}, weights for {list(self.weights)}"
        gradients = torch.stack([_gradient(losses[name], decoded) for name in names])
        norms = self._counted(names, example_norms(gradients))
        combined = torch.einsum("l,lbcs->bcs", self._scales(names), gradients)
        return Balanced(combined.to(decoded.dtype), dict(zip(names, norms.unbind(), strict=True)))

    def _counted(self, names: list[str], norms: Float[Tensor, "L"]) -> Float[Tensor, "L"]:
        """The norms averaged over the workers, after they have entered the running means."""
        norms = sum_over_world(norms, self.world) / self.world.size
        places, decay = self._places(names), self.config.decay
        self._sums[places] = decay * self._sums[places] + (1 - decay) * norms
        self._counts[places] = decay * self._counts[places] + (1 - decay)
        return norms

    def _scales(self, names: list[str]) -> Float[Tensor, "L"]:
        """What each gradient is multiplied by."""
        total = sum(self.weights[name] for name in names)
        shares = self._sums.new_tensor([self.weights[name] / total for name in names])
        places = self._places(names)
        means = self._sums[places] / self._counts[places]
        return self.config.total_norm * shares / means.clamp(min=NORM_FLOOR)

    def _places(self, names: list[str]) -> list[int]:
        return [index for index, name in enumerate(self.weights) if name in names]

    def state_dict(self) -> dict[str, Any]:
        """The running means, as tensors and plain values."""
        return {"names": list(self.weights), "sums": self._sums.clone(), "counts": self._counts.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. Raises `CheckpointError` when it is of other losses."""
        if state["names"] != list(self.weights):
            raise CheckpointError(
                f"the balancer was saved with losses {state['names']}, this run has {list(self.weights)}; "
                "weigh the same losses, or begin a new run"
            )
        self._sums.copy_(state["sums"])
        self._counts.copy_(state["counts"])


def example_norms(gradients: Float[Tensor, "L B 1 S"]) -> Float[Tensor, "L"]:
    """For gradients of losses that are means over `B` examples: the mean L2 norm of an example's own."""
    return gradients.flatten(2).norm(dim=2).mean(dim=1) * gradients.shape[1]


def _gradient(loss: Float[Tensor, ""], decoded: MonoWave) -> Float[Tensor, "B 1 S"]:
    """The graph stays: losses share it, and `decoded` is back-propagated after them."""
    return torch.autograd.grad(loss, decoded, retain_graph=True)[0].float()
