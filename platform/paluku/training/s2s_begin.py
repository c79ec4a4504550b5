"""What a fresh S2S run begins with: somebody's weights, the codec's codebooks, the reply voices' vectors."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from paluku.codec.causal import ShallowCodec
from paluku.corpus.shards import ShardSet
from paluku.errors import CheckpointError, ConfigError
from paluku.log import logger
from paluku.registry.artefact import CARD, read_model
from paluku.registry.codecs import load_codec, shipped_codec
from paluku.registry.speakers import open_speakers
from paluku.s2s.model import S2SConfig, S2SModel
from paluku.s2s.moshi_import import import_moshi
from paluku.tokens.text import TextTokenizer, default_tokenizer, read_tokenizer

# The deviation of what a side's codes of one frame add up to: above the rest of the input, which begins near
# zero, and below what the blocks add to it.
CODES_DEVIATION = 0.15

log = logger("training")

HEARING = "hearing."  # how its weights' names begin


def beginning(spec: str, config: S2SConfig, *, hears_anew: bool = False) -> tuple[str, Mapping[str, Tensor]]:
    """The hash and weights of a model folder; or the name and weights of Moshi: published, or a file.

    Of a model that `hears_anew` the hearing's weights are left out where its sizes are others.

    Raises:
        CheckpointError: when they are missing, damaged, out of reach, or of a model of other sizes.
    """
    if (folder := Path(spec)).joinpath(CARD).is_file():
        card, saved, weights = read_model(folder, "s2s", S2SConfig)
        name = card.hash
    else:
        saved, weights = import_moshi(spec)
        name = folder.name
    if config.hears_transcript and not saved.hears_transcript:
        # Nothing is made of it at first: the model says what it said.
        weights = {**weights, "transcript.weight": torch.zeros(config.text_vocab + 1, config.dim)}
        saved = saved.model_copy(update={"hears_transcript": True})
    if saved.hearing and config.hearing and saved.hearing.sizes == config.hearing.sizes:
        saved = saved.model_copy(update={"hearing": config.hearing})
    elif hears_anew:
        log.info("begin_from=%s has no hearing of these sizes: it begins anew", spec)
        weights = {name: weight for name, weight in weights.items() if not name.startswith(HEARING)}
        saved = saved.model_copy(update={"hearing": config.hearing})
    if saved != config:
        was, now = saved.model_dump(), config.model_dump()
        other = ", ".join(f"{key}: {was[key]} there, {now[key]} here" for key in was if was[key] != now[key])
        raise CheckpointError(f"begin_from: {spec} has other settings than `model` ({other}); give its own")
    return name, weights


def begin_(
    model: S2SModel, begin_from: str | None, speakers: str, *, hears_anew: bool = False
) -> dict[str, str]:
    """Fill a fresh model, in place; the hashes of what it begins from, for its card.

    One that `hears_anew` keeps a fresh hearing where that of what it begins from has other sizes.

    Raises:
        CheckpointError: as `beginning`; and when the speakers are missing or lack a reply voice.
        ConfigError: when the speakers' vectors are of another size.
    """
    parents = {}
    if begin_from is not None:
        parents["begin_from"], weights = beginning(begin_from, model.config, hears_anew=hears_anew)
        fresh = {name: weight for name, weight in model.state_dict().items() if name.startswith(HEARING)}
        model.load_state_dict({**(fresh if hears_anew else {}), **weights})
    if speakers != "none":
        opened = open_speakers(speakers)
        parents["speakers"], voices = opened.card.hash, opened.reply_voices()
        if voices.shape != model.conditioning.voices.shape:
            raise ConfigError(
                f"speakers={speakers} has vectors of {voices.shape[1]} numbers, the model takes "
                f"{model.config.speaker_dim}; set model.speaker_dim={voices.shape[1]}"
            )
        model.conditioning.voices.copy_(voices)
    return parents


@torch.no_grad()
def begin_codes_(model: S2SModel, spec: str, codec_hash: str) -> None:
    """Add to each code's embedding its entry in the codec's codebook, turned at random, in place.

    What a side's codes of a frame add up to then is the codec's latent: sounds that are alike begin alike,
    where a model would have to find out about every code by itself.

    `spec` is `default` or the codec's folder, `codec_hash` the codec's that the tokens were made with.

    Raises:
        CheckpointError: when there is no such codec, or the tokens are another's.
        ConfigError: when it has no residual codebooks of our kind, or others than the model.
    """
    card, codec = load_codec(shipped_codec() if spec == "default" else Path(spec))
    if card.hash != codec_hash:
        raise CheckpointError(
            f"codes_from: {spec} is {card.hash}, the tokens were made with codec {codec_hash}; give that one"
        )
    if not isinstance(codec, ShallowCodec):
        raise ConfigError(f"codes_from: {spec} has no residual codebooks; leave codes_from out")
    entries = codec.quantizer.codebooks[: model.config.num_codebooks]
    if entries.shape[:2] != (asked := (model.config.num_codebooks, model.config.codebook_size)):
        raise ConfigError(
            f"codes_from: {spec} has {entries.shape[0]} codebooks of {entries.shape[1]}, the model takes "
            f"{asked[0]} of {asked[1]}; set the model's sizes to those of the codec"
        )
    entries = entries - entries.mean(dim=1, keepdim=True)
    for table in model.code_embeddings():
        turned = entries @ torch.randn(entries.shape[2], table.shape[2])
        table[:, :-1] += turned * (CODES_DEVIATION / turned.var(dim=(1, 2)).sum().sqrt())


def tokenizer_of(spec: str, tokens: ShardSet) -> TextTokenizer:
    """What the tokens' text was made with; `spec` is `default`, the shipped tokenizer, or a file.

    Raises:
        CheckpointError: when it is missing, damaged, or another one.
    """
    tokenizer = default_tokenizer() if spec == "default" else read_tokenizer(Path(spec))
    made_with = tokens.manifest.parents["tokenizer"]
    if tokenizer.digest() != made_with:
        raise CheckpointError(
            f"tokenizer={spec} is {tokenizer.digest()}, the tokens' text was made with {made_with}; "
            "give the file that they were extracted with"
        )
    return tokenizer
