"""The codecs that the training loop can train: what they share, and how one is built from its settings."""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import Discriminator, Tag

from paluku.codec.encodec_config import EncodecConfig
from paluku.codec.native import NativeCodec, NativeCodecConfig
from paluku.codec.soundstream import SoundStreamCodec
from paluku.codec.soundstream_config import SoundStreamConfig

if TYPE_CHECKING:
    from paluku.codec.encodec import EncodecCodec

# All have `forward(wave, num_codebooks)`, `latents(wave)`, `quantizer`, `config` and `delay_samples`.
TrainableCodec: TypeAlias = Union[SoundStreamCodec, NativeCodec, "EncodecCodec"]
CodecConfig: TypeAlias = SoundStreamConfig | NativeCodecConfig | EncodecConfig

DEFAULT_ARCHITECTURE = "native"
CONFIGS: dict[str, type[CodecConfig]] = {
    "soundstream": SoundStreamConfig,
    "native": NativeCodecConfig,
    "encodec": EncodecConfig,
}


def _architecture(value: Any) -> str:
    """What the settings say; the native one where they are silent."""
    if isinstance(value, dict):
        return str(value.get("architecture", DEFAULT_ARCHITECTURE))
    return str(getattr(value, "architecture", DEFAULT_ARCHITECTURE))


TrainableConfig: TypeAlias = Annotated[
    Annotated[SoundStreamConfig, Tag("soundstream")]
    | Annotated[NativeCodecConfig, Tag("native")]
    | Annotated[EncodecConfig, Tag("encodec")],
    Discriminator(_architecture),
]


def build_codec(config: CodecConfig) -> TrainableCodec:
    """With fresh weights."""
    if isinstance(config, SoundStreamConfig):
        return SoundStreamCodec(config)
    if isinstance(config, NativeCodecConfig):
        return NativeCodec(config)
    from paluku.codec.encodec import EncodecCodec  # only who trains or judges EnCodec needs its package

    return EncodecCodec(config)


def latent_dim(config: CodecConfig) -> int:
    """`D` of what the quantizer codes."""
    return config.dimension if isinstance(config, EncodecConfig) else config.latent_dim
