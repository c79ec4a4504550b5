"""Models from their folders: built from the saved configuration alone, in eval mode, on the CPU."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from paluku.errors import CheckpointError
from paluku.registry.artefact import Card, read_model
from paluku.registry.shipped import shipped
from paluku.s2s.model import S2SConfig, S2SModel

SHIPPED = shipped("s2s")


def shipped_s2s() -> Path:
    """The folder of the S2S model that comes with the repository.

    Raises:
        CheckpointError: where it does not.
    """
    if not SHIPPED.is_dir():
        raise CheckpointError(
            f"{SHIPPED} is missing: it comes with a checkout of the repository, not by pip; or train one "
            "(jobs/train_s2s.py) and give the folder of the bundle that jobs/promote.py makes of it"
        )
    return SHIPPED


def load_s2s(folder: Path) -> tuple[Card, S2SModel]:
    """The S2S model of a model folder; raises as `codecs.load_codec`."""
    card, config, weights = read_model(folder, "s2s", S2SConfig)
    model = S2SModel(config)
    _fill(model, weights, folder)
    return card, model


def _fill(model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: weights do not fit their configuration ({error})") from error
    model.eval().requires_grad_(False)
