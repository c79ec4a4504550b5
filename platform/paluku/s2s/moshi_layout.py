"""Moshi's weights, as they are published, to ours and back.

Moshi (Défossez et al. 2024, arXiv:2410.00037) comes in two layouts: that of package `moshi`
(`model.safetensors` of kyutai/moshiko-pytorch-bf16) and that of `transformers`
(`MoshiForConditionalGeneration`). What differs from ours, beyond names:

- Streams. Moshi's order is text, its own codebooks, the user's; our table has the user's, text, our own.
- Delays. Moshi delays the user's acoustic codes as it does its own, and begins with a position at which it
  hears nothing: our `user_delay`. Row `t` of our user codes is what package `moshi`'s `LMGen` is given at
  its step `t`; the frame given at step 0 is not heard by either.
- Text. Moshi's padding token is 3 and its "end of padding" 0; our padding is 0. The two change places
  (`swap_padding`); every other token keeps its number.
- Rotary positions. Package `moshi` turns neighbouring channels of a head together, we its halves (as
  `transformers` does): the rows of queries and keys are put in that order.
- Conditions and the user's transcript. Moshi has none: conditions come as zeros, and are left out on the
  way back.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paluku.errors import CheckpointError
from paluku.s2s.conditioning import Conditioning
from paluku.s2s.config import DepthConfig, S2SConfig
from paluku.s2s.model import S2SModel
from paluku.tokens.text import PAD

MOSHI_PAD = 3
TRANSFORMERS_MARK = "decoder.lm_head.weight"
MOSHI_MARK = "text_linear.weight"
# Mimi travels with Moshi in the layout of `transformers`; `codec.mimi` reads it from its own file.
OTHER_MODELS = ("audio_encoder.",)
# As today's package saves what the published file holds as `in_proj_weight` and `out_proj.weight`.
SPLIT = re.compile(r"^(.*\.self_attn)\.(in|out)_projs\.(\d+)\.weight$")

Tensors = list[Tensor]


class Piece(NamedTuple):
    """Tensors of ours that are, rearranged, tensors of theirs."""

    ours: list[str]
    theirs: list[str]
    give: Callable[[Tensors], Tensors]  # ours to theirs
    take: Callable[[Tensors], Tensors]


def moshi_7b() -> S2SConfig:
    """Moshi as it is published: 7.7 thousand million parameters, a window of 4 minutes at 12.5 Hz."""
    return S2SConfig(
        num_codebooks=8,
        codebook_size=2048,
        text_vocab=32_000,
        dim=4096,
        layers=32,
        heads=32,
        feedforward_dim=11_264,
        window=3000,
        rope_base=10_000.0,
        norm_epsilon=1e-8,
        acoustic_delay=1,
        user_delay=1,
        user_text=False,
        depth=DepthConfig(
            dim=1024,
            layers=6,
            heads=16,
            feedforward_dim=2816,
            per_step=True,
            rotary=False,
            last_norm=False,
        ),
    )


def is_moshi(config: S2SConfig) -> bool:
    """Whether a model is Moshi's architecture, of whatever size."""
    depth = config.depth
    return (
        depth.per_step
        and not (depth.rotary or depth.last_norm)
        and config.user_delay is not None
        and config.hearing is None
        and not config.hears_transcript
        and config.num_codebooks > 1
        and config.text_vocab > MOSHI_PAD
    )


def swap_padding(text: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Moshi's text tokens to ours, and ours to Moshi's."""
    return torch.where(text == PAD, MOSHI_PAD, torch.where(text == MOSHI_PAD, PAD, text))


def to_moshi(weights: Mapping[str, Tensor], config: S2SConfig) -> dict[str, Tensor]:
    """Our state dict in the layout of package `moshi`, with the names of the published file."""
    return _give(weights, config, _moshi_pieces(config))


def to_transformers(weights: Mapping[str, Tensor], config: S2SConfig) -> dict[str, Tensor]:
    """Our state dict in the layout of `transformers`, without Mimi's part (`audio_encoder`)."""
    return _give(weights, config, _transformers_pieces(config))


def from_theirs(tensors: Mapping[str, Tensor], config: S2SConfig, origin: str) -> dict[str, Tensor]:
    """A state dict of ours from either layout; the conditions are zero. Types stay as they are.

    Raises:
        CheckpointError: when the tensors are neither layout's, or not of these sizes; `origin` is named.
    """
    assert is_moshi(config), f"not Moshi's architecture: {config}"
    left = {name: x for name, x in named(tensors).items() if not name.startswith(OTHER_MODELS)}
    pieces = (_transformers_pieces if is_transformers(left, origin) else _moshi_pieces)(config)
    weights = _conditions(config, next(iter(left.values())).dtype)
    with torch.device("meta"):
        wanted = {name: x.shape for name, x in S2SModel(config).state_dict().items()}
    for piece in pieces:
        try:
            taken = piece.take([left.pop(name) for name in piece.theirs])
        except KeyError as error:
            raise CheckpointError(f"{origin} lacks {error}: it is not a Moshi of these sizes") from error
        except RuntimeError as error:
            raise CheckpointError(
                f"{origin}: {piece.theirs[0]} is not of Moshi's shape ({error}); it is another architecture"
            ) from error
        for name, tensor in zip(piece.ours, taken, strict=True):
            if tensor.shape != wanted[name]:
                raise CheckpointError(
                    f"{origin}: {piece.theirs[0]} gives {name} {list(tensor.shape)}, this Moshi's is "
                    f"{list(wanted[name])}; give the config.json that belongs to it"
                )
            weights[name] = tensor
    if left:
        raise CheckpointError(
            f"{origin} holds {len(left)} tensors that Moshi has not ({min(left)} ...); "
            "it is another architecture"
        )
    assert weights.keys() == wanted.keys(), f"names differ: {weights.keys() ^ wanted.keys()}"
    return weights


def named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the names of the published file, where today's package splits a tensor by steps."""
    whole = {name: x for name, x in tensors.items() if SPLIT.match(name) is None}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, x in tensors.items():
        if (split := SPLIT.match(name)) is not None:
            joined = f"{split[1]}.in_proj_weight" if split[2] == "in" else f"{split[1]}.out_proj.weight"
            parts.setdefault(joined, {})[int(split[3])] = x
    return whole | {name: torch.cat([part[i] for i in sorted(part)]) for name, part in parts.items()}


def is_transformers(tensors: Mapping[str, Tensor], origin: str) -> bool:
    """Which of the two layouts.

    Raises:
        CheckpointError: when it is neither.
    """
    if TRANSFORMERS_MARK not in tensors and MOSHI_MARK not in tensors:
        raise CheckpointError(
            f"{origin} does not hold Moshi's weights (no {MOSHI_MARK}, no {TRANSFORMERS_MARK}); give "
            "model.safetensors of kyutai/moshiko-pytorch-bf16, or a folder that transformers saved"
        )
    return TRANSFORMERS_MARK in tensors


def _give(weights: Mapping[str, Tensor], config: S2SConfig, pieces: Iterator[Piece]) -> dict[str, Tensor]:
    assert is_moshi(config), f"Moshi's layout has no place for this model: {config}"
    given: dict[str, Tensor] = {}
    for piece in pieces:
        parts = piece.give([weights[name] for name in piece.ours])
        # safetensors stores no views of one another.
        given |= {name: part.clone() for name, part in zip(piece.theirs, parts, strict=True)}
    return given


def _conditions(config: S2SConfig, dtype: torch.dtype) -> dict[str, Tensor]:
    conditioning = Conditioning(config.dim, config.speaker_dim)
    zeros = {name: torch.zeros_like(x, dtype=dtype) for name, x in conditioning.named_parameters()}
    return {f"conditioning.{name}": x for name, x in (zeros | {"voices": conditioning.voices}).items()}


def _moshi_pieces(config: S2SConfig) -> Iterator[Piece]:
    K = config.num_codebooks
    streams = [f"emb.{K + k}.weight" for k in range(K)] + ["text_emb.weight"]
    yield _embeddings(config, [*streams, *(f"emb.{k}.weight" for k in range(K))])
    yield _same("text_head.weight", "text_linear.weight", _swapped, _swapped)
    yield _same("temporal.norm.weight", "out_norm.alpha", *ALPHA)
    for ours, theirs in _blocks("temporal.blocks", "transformer.layers", config.layers):
        yield from _norms(ours, theirs, ("norm1.alpha", "norm2.alpha"), *ALPHA)
        heads = config.heads
        yield _same(
            f"{ours}.attention.project_in.weight",
            f"{theirs}.self_attn.in_proj_weight",
            lambda x, heads=heads: _turned(x, heads, _neighbours),
            lambda x, heads=heads: _turned(x, heads, _halves),
        )
        yield _same(f"{ours}.attention.project_out.weight", f"{theirs}.self_attn.out_proj.weight")
        yield _same(f"{ours}.feedforward.project_in.weight", f"{theirs}.gating.linear_in.weight")
        yield _same(f"{ours}.feedforward.project_out.weight", f"{theirs}.gating.linear_out.weight")
    yield from _moshi_depth(config)


def _moshi_depth(config: S2SConfig) -> Iterator[Piece]:
    K = config.num_codebooks
    yield _same("depth.text.weight", "depformer_text_emb.weight", _swapped, _swapped)
    yield _cut("depth.from_temporal.weight", [f"depformer_in.{k}.weight" for k in range(K)])
    for k in range(K - 1):
        yield _same(f"depth.codes.{k}.weight", f"depformer_emb.{k}.weight")
    for k in range(K):
        yield _same(f"depth.heads.{k}.weight", f"linears.{k}.weight")
    for ours, theirs in _blocks("depth.transformer.blocks", "depformer.layers", config.depth.layers):
        yield from _norms(ours, theirs, ("norm1.alpha", "norm2.alpha"), *ALPHA)
        for our_name, their_name in (("in", "in_proj_weight"), ("out", "out_proj.weight")):
            yield _same(
                f"{ours}.attention.project_{our_name}.weight",
                f"{theirs}.self_attn.{their_name}",
                lambda x: x.flatten(0, 1),
                lambda x: x.unflatten(0, (K, -1)),
            )
        for side in ("in", "out"):
            yield Piece(
                [f"{ours}.feedforward.project_{side}.weight"],
                [f"{theirs}.gating.{k}.linear_{side}.weight" for k in range(K)],
                lambda given: list(given[0].unbind()),
                lambda taken: [torch.stack(taken)],
            )


def _transformers_pieces(config: S2SConfig) -> Iterator[Piece]:
    K = config.num_codebooks
    streams = [f"embed_tokens.{K + k}.weight" for k in range(K)] + ["decoder.model.embed_tokens.weight"]
    yield _embeddings(config, [*streams, *(f"embed_tokens.{k}.weight" for k in range(K))])
    yield _same("text_head.weight", TRANSFORMERS_MARK, _swapped, _swapped)
    yield _same("temporal.norm.weight", "decoder.model.norm.weight")
    yield _same("depth.text.weight", "depth_decoder.text_embed_tokens.weight", _swapped, _swapped)
    yield _same(
        "depth.from_temporal.weight",
        "depth_decoder.input_projections.weight",
        lambda x: x.unflatten(0, (K, -1)),
        lambda x: x.flatten(0, 1),
    )
    for k in range(K - 1):
        yield _same(f"depth.codes.{k}.weight", f"depth_decoder.embed_tokens.{k}.weight")
    yield Piece(
        [f"depth.heads.{k}.weight" for k in range(K)],
        ["depth_decoder.lm_heads.weight"],
        lambda given: [torch.stack(given)],
        lambda taken: list(taken[0].unbind()),
    )
    yield from _transformers_blocks("temporal.blocks", "decoder.model.layers", config.layers)
    yield from _transformers_blocks("depth.transformer.blocks", "depth_decoder.layers", config.depth.layers)


def _transformers_blocks(ours: str, theirs: str, layers: int) -> Iterator[Piece]:
    """Matrices of one step, or of all steps stacked: rows are the last dimension but one."""
    for our, their in _blocks(ours, theirs, layers):
        yield from _norms(our, their, ("input_layernorm.weight", "post_attention_layernorm.weight"))
        yield Piece(
            [f"{our}.attention.project_in.weight"],
            [f"{their}.self_attn.{letter}_proj.linear.weight" for letter in "qkv"],
            lambda given: list(given[0].tensor_split(3, dim=-2)),
            lambda taken: [torch.cat(taken, dim=-2)],
        )
        yield _same(f"{our}.attention.project_out.weight", f"{their}.self_attn.o_proj.linear.weight")
        yield _same(f"{our}.feedforward.project_in.weight", f"{their}.mlp.fc1.weight")
        yield _same(f"{our}.feedforward.project_out.weight", f"{their}.mlp.fc2.weight")


def _blocks(ours: str, theirs: str, layers: int) -> list[tuple[str, str]]:
    return [(f"{ours}.{layer}", f"{theirs}.{layer}") for layer in range(layers)]


def _itself(x: Tensor) -> Tensor:
    return x


def _same(
    ours: str,
    theirs: str,
    give: Callable[[Tensor], Tensor] = _itself,
    take: Callable[[Tensor], Tensor] = _itself,
) -> Piece:
    return Piece([ours], [theirs], lambda given: [give(given[0])], lambda taken: [take(taken[0])])


def _cut(ours: str, theirs: list[str]) -> Piece:
    """Ours by rows, in equal parts."""
    return Piece(
        [ours],
        theirs,
        lambda given: list(given[0].tensor_split(len(theirs))),
        lambda taken: [torch.cat(taken)],
    )


def _embeddings(config: S2SConfig, theirs: list[str]) -> Piece:
    """One table of ours, whose streams are `theirs`; text stands in the middle."""
    K, rows = config.num_codebooks, config.codebook_size + 1
    sizes = [*[rows] * K, config.text_vocab + 1, *[rows] * K]

    def give(given: Tensors) -> Tensors:
        parts = list(given[0].split(sizes))
        return [*parts[:K], _swapped(parts[K]), *parts[K + 1 :]]

    def take(taken: Tensors) -> Tensors:
        return [torch.cat([*taken[:K], _swapped(taken[K]), *taken[K + 1 :]])]

    return Piece(["embedding.table"], theirs, give, take)


def _norms(
    ours: str,
    theirs: str,
    names: tuple[str, str],
    give: Callable[[Tensor], Tensor] = _itself,
    take: Callable[[Tensor], Tensor] = _itself,
) -> Iterator[Piece]:
    for our_name, their_name in zip(("attention_norm", "feedforward_norm"), names, strict=True):
        yield _same(f"{ours}.{our_name}.weight", f"{theirs}.{their_name}", give, take)


def _swapped(rows: Float[Tensor, "V D"]) -> Float[Tensor, "V D"]:
    """The padding token's row and the one in its place change places."""
    order = torch.arange(len(rows))
    order[PAD], order[MOSHI_PAD] = MOSHI_PAD, PAD
    return rows[order]


# A norm's factor, which package `moshi` keeps as [1, 1, D].
ALPHA = (lambda x: x[None, None], lambda x: x.flatten())


def _turned(
    weight: Float[Tensor, "R D"], heads: int, order: Callable[[Tensor, int], Tensor]
) -> Float[Tensor, "R D"]:
    """The rows of queries and keys in another order."""
    queries, keys, values = weight.tensor_split(3)
    return torch.cat((order(queries, heads), order(keys, heads), values))


def _halves(weight: Float[Tensor, "R D"], heads: int) -> Float[Tensor, "R D"]:
    """Each head's even rows, then its odd ones."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _neighbours(weight: Float[Tensor, "R D"], heads: int) -> Float[Tensor, "R D"]:
    """The inverse of `_halves`."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
