"""A whole bundle of random weights: what it says is noise, everything around it is real."""

from pathlib import Path

import torch

from paluku.codec.native import NativeCodec, NativeCodecConfig, NetConfig
from paluku.registry.artefact import appearing_whole, write_model
from paluku.registry.bundle import write_bundle
from paluku.s2s.model import DepthConfig, S2SConfig, S2SModel
from paluku.tokens.text import default_tokenizer

SMALL = NetConfig(hidden=16, units=1)


def tiny_codec(folder: Path, seed: int = 0) -> str:
    """Write a codec's model folder; gives its hash."""
    config = NativeCodecConfig(latent_dim=16, encoder=SMALL, decoder=SMALL, num_codebooks=8)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        codec = NativeCodec(config)
    with appearing_whole(folder) as partial:
        return write_model(partial, "codec", config, codec.state_dict()).hash


def tiny_s2s(folder: Path, codec_hash: str, num_codebooks: int = 8, seed: int = 0) -> str:
    """Write the folder of an S2S model that was trained on a codec's tokens; gives its hash."""
    depth = DepthConfig(dim=16, layers=1, heads=2)
    config = S2SConfig(num_codebooks=num_codebooks, dim=32, layers=1, heads=2, window=16, depth=depth)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        s2s = S2SModel(config)
    parents = {"codec": codec_hash, "tokenizer": default_tokenizer().digest()}
    with appearing_whole(folder) as partial:
        return write_model(partial, "s2s", config, s2s.state_dict(), parents=parents).hash


def tiny_bundle(folder: Path, num_codebooks: int = 8, seed: int = 0) -> Path:
    """Write codec, S2S model and their bundle below an existing folder; gives the bundle's.

    `num_codebooks` and `seed` are the S2S model's; the codec has 8 and is always the same.
    """
    tiny_s2s(folder / "s2s", tiny_codec(folder / "codec"), num_codebooks, seed)
    write_bundle(folder / "bundle", folder / "codec", folder / "s2s", default_tokenizer())
    return folder / "bundle"
