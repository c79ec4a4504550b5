"""The codecs that the training loop can train: what they share, and how one is built from its settings."""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import Discriminator, Tag

from paluku.codec.encodec_config import EncodecConfig
from paluku.codec.native import NativeCodec, NativeCodecConfig

if TYPE_CHECKING:
    from paluku.codec.encodec import EncodecCodec

# Both have `forward(wave, num_codebooks)`, `latents(wave)`, `quantizer`, `config` and `delay_samples`.
TrainableCodec: TypeAlias = Union[NativeCodec, "EncodecCodec"]


def _architecture(value: Any) -> str:
    """What the settings say; our own where they are silent."""
    if isinstance(value, dict):
        return str(value.get("architecture", "native"))
    return str(getattr(value, "architecture", "native"))


TrainableConfig: TypeAlias = Annotated[
    Annotated[NativeCodecConfig, Tag("native")] | Annotated[EncodecConfig, Tag("encodec")],
    Discriminator(_architecture),
]


def build_codec(config: NativeCodecConfig | EncodecConfig) -> TrainableCodec:
    """With fresh weights."""
    if isinstance(config, NativeCodecConfig):
        return NativeCodec(config)
    from paluku.codec.encodec import EncodecCodec  # only who trains or judges EnCodec needs its package

    return EncodecCodec(config)


def latent_dim(config: NativeCodecConfig | EncodecConfig) -> int:
    """`D` of what the quantizer codes."""
    return config.dimension if isinstance(config, EncodecConfig) else config.latent_dim
