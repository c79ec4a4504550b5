"""A whole bundle with random weights of the shapes that are trained: what it says is noise."""

from pathlib import Path

import torch

from paluku.codec.native import NativeCodec, NativeCodecConfig
from paluku.registry.artefact import appearing_whole, write_model
from paluku.registry.bundle import write_bundle
from paluku.s2s.model import DepthConfig, S2SConfig, S2SModel
from paluku.tokens.text import CharTokenizer

CODEC = NativeCodecConfig(latent_dim=16, hidden=16, units=1)
S2S = S2SConfig(dim=32, layers=1, heads=2, window=16, depth=DepthConfig(dim=16, layers=1, heads=2))


def tiny_codec(folder: Path, seed: int = 0) -> str:
    """Write a codec's model folder; gives its hash."""
    torch.manual_seed(seed)
    with appearing_whole(folder) as partial:
        return write_model(partial, "codec", CODEC, NativeCodec(CODEC).state_dict()).hash


def tiny_s2s(folder: Path, codec_hash: str, seed: int = 0) -> str:
    """Write the folder of an S2S model that was trained on a codec's tokens; gives its hash."""
    torch.manual_seed(seed)
    parents = {"codec": codec_hash, "tokenizer": CharTokenizer().digest()}
    with appearing_whole(folder) as partial:
        return write_model(partial, "s2s", S2S, S2SModel(S2S).state_dict(), parents=parents).hash


def tiny_bundle(folder: Path) -> Path:
    """Write a bundle to `folder`, and its parts beside it."""
    codec, s2s = folder.with_name("codec"), folder.with_name("s2s")
    tiny_s2s(s2s, tiny_codec(codec))
    write_bundle(folder, codec, s2s, CharTokenizer())
    return folder
