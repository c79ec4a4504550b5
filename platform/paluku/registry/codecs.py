"""Codecs by what a person calls them: the shipped one, published ones, a training run's checkpoint."""

import json
import os
from pathlib import Path

from torch import Tensor

from paluku.codec.causal import ShallowCodec
from paluku.codec.encodec_config import EncodecConfig
from paluku.codec.lyra_layout import lyra_weights
from paluku.codec.port import Codec
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.codec.trainable import (
    CONFIGS,
    DEFAULT_ARCHITECTURE,
    CodecConfig,
    TrainableCodec,
    build_codec,
)
from paluku.errors import CheckpointError, ConfigError
from paluku.registry.artefact import CONFIG, Card, read_card, read_model
from paluku.registry.shipped import shipped

DEFAULT = "default"
SHIPPED = shipped("codec")
PUBLISHED = ("encodec", "dac", "mimi")
# What a run can begin from by name. Lyra's networks come without codebooks of our kind.
BEGINNINGS = ("encodec", "lyra")
LYRA_VARIABLE = "PALUKU_LYRA"


def open_codec(spec: str) -> Codec:
    """`default` (shipped), `encodec`, `dac`, `mimi` (published weights), or a model folder; in eval mode.

    Raises:
        CheckpointError: when it is none of these, or its files are missing or damaged.
    """
    if spec in PUBLISHED:
        return _published(spec)
    folder = shipped_codec() if spec == DEFAULT else Path(spec)
    if not folder.is_dir():
        known = ", ".join((DEFAULT, *PUBLISHED))
        raise CheckpointError(f"there is no codec {spec!r}; give {known}, or the folder of a checkpoint")
    return load_codec(folder)[1]


def _published(name: str) -> Codec:
    """Each needs packages that serving does without."""
    if name == "dac":
        from paluku.codec.dac import DacCodec

        return DacCodec.from_published("dac_24khz")
    if name == "mimi":
        from paluku.codec.mimi import MimiCodec

        return MimiCodec.from_published()
    from paluku.codec.encodec import EncodecCodec

    return EncodecCodec.from_published("encodec_24khz")


def shipped_codec() -> Path:
    """The folder of the codec that comes with the repository. Raises `CheckpointError` where it does not."""
    if not SHIPPED.is_dir():
        raise CheckpointError(f"{SHIPPED} is missing: it comes with a checkout of the repository, not by pip")
    return SHIPPED


def load_codec(folder: Path, *, folded: bool = True) -> tuple[Card, TrainableCodec]:
    """The codec of a model folder, in eval mode; `folded` for use, with its own weights for training.

    Raises:
        CheckpointError: when the folder is not whole, damaged, or holds something else.
    """
    read_card(folder, "codec")
    card, config, weights = read_model(folder, "codec", _kind_of_config(folder / CONFIG))
    codec = build_codec(config)
    try:
        codec.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: weights do not fit their configuration ({error})") from error
    codec = codec.eval().requires_grad_(False)
    if folded and not isinstance(codec, ShallowCodec) and codec.config.weight_norm:
        return card, codec.folded()
    return card, codec


def with_first_codebooks(codec: TrainableCodec, num_codebooks: int, name: str) -> TrainableCodec:
    """The codec, or where it has more codebooks, its first ones. Raises `ConfigError` when it has fewer."""
    if num_codebooks == codec.num_codebooks:
        return codec
    if not isinstance(codec, ShallowCodec) or num_codebooks > codec.num_codebooks:
        raise ConfigError(
            f"{name} has {codec.num_codebooks} codebooks, not {num_codebooks}; ask for as many as it has"
        )
    return codec.first(num_codebooks)


def beginning(spec: str, config: CodecConfig) -> dict[str, Tensor]:
    """Weights for a codec of these settings to begin with: published (by name or file), or a model folder's.

    Raises:
        CheckpointError: when they are missing, damaged, or of another architecture or other sizes.
        StorageError: when fetched ones cannot be written.
    """
    if spec not in BEGINNINGS and (folder := Path(spec)).is_dir():
        codec = load_codec(folder, folded=False)[1]
    elif isinstance(config, SoundStreamConfig) and spec == "lyra":
        named = os.environ.get(LYRA_VARIABLE)
        return lyra_weights(config, Path(named) if named else None)
    elif isinstance(config, EncodecConfig):
        from paluku.codec.encodec import EncodecCodec

        codec = EncodecCodec.from_published("encodec_24khz" if spec == "encodec" else spec, config)
    else:
        raise CheckpointError(
            f"begin_from: there is no model folder {spec}; name one of a {config.architecture} codec, or set "
            "model.architecture=encodec for EnCodec's weights (jobs/configs/train_codec.encodec.yaml), "
            "soundstream for Lyra's"
        )
    if codec.config != config:
        raise CheckpointError(
            f"begin_from: {spec} has other settings than `model`; give the ones it was made with"
        )
    return codec.state_dict()


def brings_codebooks(spec: str | None) -> bool:
    """Whether what a run begins from has codebooks; without, k-means sets them."""
    return spec is not None and spec != "lyra"


def _kind_of_config(path: Path) -> type[CodecConfig]:
    """Told by what the file says of its architecture; whatever else is wrong with it is said later."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    named = values.get("architecture") if isinstance(values, dict) else None
    return CONFIGS.get(str(named), CONFIGS[DEFAULT_ARCHITECTURE])
