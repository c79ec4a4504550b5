"""A published Moshi read from its file or folder: what sizes it has, and its weights in our layout."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from paluku.codec.published import Weights, find
from paluku.config import resolve
from paluku.errors import CheckpointError, ConfigError
from paluku.log import logger
from paluku.s2s.config import S2SConfig
from paluku.s2s.moshi_layout import from_theirs, is_transformers, moshi_7b, named

LICENCE = "CC BY 4.0, Kyutai"
KNOWN = {
    # Their file is called model.safetensors; here each has a name of its own.
    f"kyutai/{name}-pytorch-bf16": Weights(
        name=f"kyutai/{name}-pytorch-bf16",
        file=f"{name}-pytorch-bf16.safetensors",
        url=f"https://huggingface.co/kyutai/{name}-pytorch-bf16/resolve/main/model.safetensors",
        licence=LICENCE,
    )
    for name in ("moshiko", "moshika")
}
# Of both transformers in the published Moshi: what no tensor's shape tells.
CHANNELS_PER_HEAD, DEPTH_CHANNELS_PER_HEAD = 128, 64

_log = logger(__name__)


def import_moshi(name_or_path: str) -> tuple[S2SConfig, dict[str, Tensor]]:
    """A model's configuration and its state dict, of the file's floating point type.

    Takes the name of a published Moshi (`KNOWN`: fetched once, see `codec.published`), a `.safetensors`
    file, or a folder with one (of package `moshi` or `transformers`). A `config.json` beside the file tells
    heads, window and delays; without it they are the published Moshi's.

    Raises:
        CheckpointError: when there is no such name, file or folder, it cannot be fetched or read, or it
            is another architecture; says what to do.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path in KNOWN or not path.exists():
        path = find(name_or_path, KNOWN)
    else:
        _log.info("weights file=%s: Kyutai's are %s; another's licence is yours to know", path, LICENCE)
    tensors = named(_read(path))
    folder = path if path.is_dir() else path.parent
    config = _config(tensors, _settings(folder / "config.json"), str(path))
    return config, from_theirs(tensors, config, str(path))


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, or of the model's files in a folder."""
    files = sorted(path.glob("model*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise CheckpointError(
            f"{path} holds no model.safetensors; give the folder that transformers saved, or the file"
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{file} cannot be read as safetensors ({error}); it is cut off or of another format: "
                "fetch Moshi's file again"
            ) from error
    return tensors


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} must hold Moshi's settings by name; fetch it again")
    return settings


def _config(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], origin: str) -> S2SConfig:
    """Sizes from the tensors' shapes, the rest from the settings of either package."""
    of = _transformers_sizes if is_transformers(tensors, origin) else _moshi_sizes
    try:
        sizes = of(tensors, settings)
    except (KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{origin} is no Moshi that is known here (no {error})") from error
    whole = moshi_7b().model_dump()
    try:
        return resolve(S2SConfig, whole | sizes | {"depth": whole["depth"] | sizes["depth"]}, origin)
    except ConfigError as error:
        raise CheckpointError(f"{error}; put the config.json that belongs to it beside the file") from error


def _moshi_sizes(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    K, delays = _count(tensors, r"linears\.(\d+)\.weight"), settings.get("delays")
    streams, d = tensors["emb.0.weight"], tensors["depformer_in.0.weight"].shape[0]
    return {
        **_streams(streams, tensors["text_linear.weight"], K),
        **_delays(delays, K),
        "layers": _count(tensors, r"transformer\.layers\.(\d+)\.norm1\.alpha"),
        "heads": settings.get("num_heads", streams.shape[1] // CHANNELS_PER_HEAD),
        "feedforward_dim": tensors["transformer.layers.0.gating.linear_out.weight"].shape[1],
        "window": settings.get("context", moshi_7b().window),
        "rope_base": settings.get("max_period", moshi_7b().rope_base),
        "depth": {
            "dim": d,
            "layers": _count(tensors, r"depformer\.layers\.(\d+)\.norm1\.alpha"),
            "heads": settings.get("depformer_num_heads", d // DEPTH_CHANNELS_PER_HEAD),
            "feedforward_dim": tensors["depformer.layers.0.gating.0.linear_out.weight"].shape[1],
        },
    }


def _transformers_sizes(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    K, d, D = tensors["depth_decoder.input_projections.weight"].shape
    depth = settings.get("depth_decoder_config", {})
    rope = settings.get("rope_parameters") or {}
    return {
        **_streams(tensors["embed_tokens.0.weight"], tensors["decoder.lm_head.weight"], K),
        "layers": _count(tensors, r"decoder\.model\.layers\.(\d+)\.input_layernorm\.weight"),
        "heads": settings.get("num_attention_heads", D // CHANNELS_PER_HEAD),
        "feedforward_dim": tensors["decoder.model.layers.0.mlp.fc2.weight"].shape[1],
        "window": settings.get("sliding_window", moshi_7b().window),
        "rope_base": rope.get("rope_theta", settings.get("rope_theta", moshi_7b().rope_base)),
        "norm_epsilon": settings.get("rms_norm_eps", moshi_7b().norm_epsilon),
        "depth": {
            "dim": d,
            "layers": _count(tensors, r"depth_decoder\.layers\.(\d+)\.input_layernorm\.weight"),
            "heads": depth.get("num_attention_heads", d // DEPTH_CHANNELS_PER_HEAD),
            "feedforward_dim": tensors["depth_decoder.layers.0.mlp.fc2.weight"].shape[2],
        },
    }


def _streams(codebook: Tensor, text_head: Tensor, num_codebooks: int) -> dict[str, int]:
    return {
        "num_codebooks": num_codebooks,
        "codebook_size": codebook.shape[0] - 1,
        "text_vocab": text_head.shape[0],
        "dim": codebook.shape[1],
    }


def _delays(delays: object, num_codebooks: int) -> dict[str, int]:
    """Text first, then both speakers: a first codebook at once, the others late by one number of frames."""
    if delays is None:
        return {}
    match delays:
        case [0, 0, ours, *_] if delays == [0, *_speaker(ours, num_codebooks), *delays[1 + num_codebooks :]]:
            theirs = delays[1 + num_codebooks :]
            if len(theirs) == num_codebooks and theirs == _speaker(theirs[-1], num_codebooks):
                return {"acoustic_delay": ours, "user_delay": theirs[-1]}
    raise KeyError(f"delays as Moshi's, but {delays}")


def _speaker(delay: int, num_codebooks: int) -> list[int]:
    return [0, *[delay] * (num_codebooks - 1)]


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)
