"""Low-rank adapters on a model that learns nothing else but its conditioning; merged when it is saved."""

from collections.abc import Mapping

from torch import Tensor, nn

from paluku.errors import ConfigError
from paluku.s2s.model import S2SModel
from paluku.torchaudio_cpu import prepare_torchaudio
from paluku.training.s2s_config import LoraConfig

# How package peft names the parts of a layer that it wrapped.
BASE, DOWN, UP = ".base_layer.weight", ".lora_A.default.weight", ".lora_B.default.weight"


def adapt_(model: S2SModel, config: LoraConfig) -> None:
    """Wrap every linear layer outside `conditioning`, in place; the rest of the weights stay as they are.

    Of a hearing that is frozen only what the transformer makes of it.

    Raises:
        ConfigError: when package `peft` is not here.
    """
    prepare_torchaudio()  # which `peft` imports, by way of `transformers`
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            f"lora needs package peft ({error}); pip install peft, or leave lora out"
        ) from error
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    adapted = [
        name
        for name, layer in layers.items()
        if layer.weight.requires_grad and not name.startswith("conditioning.")
    ]
    inject_adapter_in_model(PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=adapted), model)
    # Whoever fine-tunes a model brings its own voices and styles.
    model.conditioning.requires_grad_(True)


def merged(weights: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """The weights of a model without adapters that computes the same (Hu et al. 2021, section 4.1)."""
    result = {name: value for name, value in weights.items() if not name.endswith((BASE, DOWN, UP))}
    for name, value in weights.items():
        if name.endswith(BASE):
            layer = name.removesuffix(BASE)
            change = weights[layer + UP] @ weights[layer + DOWN]
            result[f"{layer}.weight"] = value + config.alpha / config.rank * change
    return result
