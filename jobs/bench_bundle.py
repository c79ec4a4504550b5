"""Bundles to measure with where there is none from `make demo`, and a second model to reload."""

from pathlib import Path


def random_bundle(folder: Path) -> Path:
    """Codec and S2S model of the demo's sizes of random weights: they say noise, the work is real."""
    import torch

    from paluku.codec.native import NativeCodec, NativeCodecConfig
    from paluku.registry.artefact import appearing_whole, write_model
    from paluku.registry.bundle import write_bundle
    from paluku.s2s.model import S2SConfig, S2SModel
    from paluku.tokens.text import default_tokenizer

    torch.manual_seed(0)
    codec, s2s = NativeCodecConfig(), S2SConfig()
    with appearing_whole(folder / "codec") as partial:
        digest = write_model(partial, "codec", codec, NativeCodec(codec).state_dict()).hash
    parents = {"codec": digest, "tokenizer": default_tokenizer().digest()}
    with appearing_whole(folder / "s2s") as partial:
        write_model(partial, "s2s", s2s, S2SModel(s2s).state_dict(), parents=parents)
    write_bundle(folder / "bundle", folder / "codec", folder / "s2s", default_tokenizer())
    return folder / "bundle"


def another_model(bundle: Path, folder: Path) -> Path:
    """The same codec and an S2S model a little off: what a retrained one is to the service.

    Raises:
        CheckpointError: when the bundle is missing or damaged.
    """
    import torch

    from paluku.registry.artefact import appearing_whole, read_card, write_model
    from paluku.registry.bundle import CODEC, S2S, load_s2s, load_tokenizer, write_bundle

    model, parents = load_s2s(bundle), read_card(bundle / S2S, "s2s").parents
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.0 + 2**-10)
    folder.mkdir(parents=True)
    with appearing_whole(folder / "s2s") as partial:
        write_model(partial, "s2s", model.config, model.state_dict(), parents=parents)
    write_bundle(folder / "bundle", bundle / CODEC, folder / "s2s", load_tokenizer(bundle))
    return folder / "bundle"
