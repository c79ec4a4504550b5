"""The codec's opponent: discriminators, their optimiser, and what their verdicts cost either side."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from paluku.codec.adversarial import Adversary, discriminator_loss, feature_matching, generator_loss
from paluku.codec.discriminators import DiscriminatorConfig, Discriminators, Verdict
from paluku.config import Config
from paluku.shapes import MonoWave
from paluku.training.schedule import set_learning_rate
from paluku.training.world import World, distribute


class GanConfig(Config):
    """How the discriminators look and learn."""

    discriminators: DiscriminatorConfig = DiscriminatorConfig()
    adversary: Adversary = "hinge"
    learning_rate: float = Field(default=1e-3, gt=0)
    max_gradient_norm: float = Field(default=10.0, gt=0)
    bfloat16: bool = False  # judge in half the precision, on a GPU; CPUs judge in float32 all the same


class Gan:
    """Discriminators of one run; the same on every worker."""

    def __init__(self, config: GanConfig, world: World) -> None:
        self.config, self._device = config, world.device
        self.discriminators = Discriminators(config.discriminators)
        self._parallel = distribute(self.discriminators, world)
        self._learned = list(self.discriminators.parameters())
        self.optimiser = torch.optim.AdamW(self._learned, lr=config.learning_rate, betas=(0.8, 0.99))

    def losses(
        self, decoded: MonoWave, wave: MonoWave
    ) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, ""]]:
        """What the verdicts on a batch cost the codec, by name; and what they cost the discriminators."""
        with self._precision():
            of_real, of_fake = self._judge(wave), self._judge(decoded)
        ours = {
            "adversarial": generator_loss(of_fake, self.config.adversary),
            "feature": feature_matching(of_fake, of_real),
        }
        return ours, discriminator_loss(of_real, of_fake, self.config.adversary)

    def learn(self, loss: Float[Tensor, ""], share: float) -> None:
        """One update of the discriminators at `share` of the peak learning rate; the codec gets no gradient.

        A step whose gradient is not finite is left out: the codec's own is checked beside it.
        """
        set_learning_rate(self.optimiser, share * self.config.learning_rate)
        self.optimiser.zero_grad()
        loss.backward(inputs=self._learned)
        norm = nn.utils.clip_grad_norm_(self._learned, self.config.max_gradient_norm)
        if torch.isfinite(norm):
            self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {
            "weights": self.discriminators.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.discriminators.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _judge(self, wave: MonoWave) -> list[Verdict]:
        return self._parallel(wave)

    def _precision(self) -> AbstractContextManager:
        # bfloat16 convolutions on a CPU (oneDNN of torch 2.11) came out infinite in one run.
        on_gpu = self._device.type != "cpu"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.bfloat16 and on_gpu)
