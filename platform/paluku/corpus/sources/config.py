"""All kinds of sources in one union: `kind` chooses. Each adapter's docstring has an example."""

from typing import Annotated, assert_never

from pydantic import Field

from paluku.corpus.sources.capped import Capped
from paluku.corpus.sources.common_voice import CommonVoice, CommonVoiceConfig
from paluku.corpus.sources.folder import FolderConfig, FolderSource
from paluku.corpus.sources.indictts import IndicTts, IndicTtsConfig
from paluku.corpus.sources.librispeech import LibriSpeech, LibriSpeechConfig
from paluku.corpus.sources.ljspeech import LjSpeech, LjSpeechConfig
from paluku.corpus.sources.manifest import ManifestConfig, ManifestSource
from paluku.corpus.sources.port import Source
from paluku.corpus.sources.slr66 import Slr66, Slr66Config
from paluku.corpus.sources.vctk import Vctk, VctkConfig
from paluku.corpus.voices.sentences import Spoken, SpokenConfig

RecordedConfig = (
    Slr66Config
    | IndicTtsConfig
    | CommonVoiceConfig
    | LibriSpeechConfig
    | VctkConfig
    | LjSpeechConfig
    | FolderConfig
    | ManifestConfig
)
SourceConfig = Annotated[RecordedConfig | SpokenConfig, Field(discriminator="kind")]


def open_source(config: SourceConfig) -> Source:
    """The corpus that the settings describe; nothing is read or fetched before it is iterated."""
    return Spoken(config) if isinstance(config, SpokenConfig) else Capped(_recorded(config), config)


def _recorded(config: RecordedConfig) -> Source:
    match config:
        case Slr66Config():
            return Slr66(config)
        case IndicTtsConfig():
            return IndicTts(config)
        case CommonVoiceConfig():
            return CommonVoice(config)
        case LibriSpeechConfig():
            return LibriSpeech(config)
        case VctkConfig():
            return Vctk(config)
        case LjSpeechConfig():
            return LjSpeech(config)
        case FolderConfig():
            return FolderSource(config)
        case ManifestConfig():
            return ManifestSource(config)
        case _:
            assert_never(config)
