"""Mimi's weights as they are published, brought into the layout of `codec.mimi`.

Two files hold the same weights: `model.safetensors` of kyutai/mimi (the layout of `transformers`) and
`tokenizer-e351c8d8-checkpoint125.safetensors` of Kyutai's Moshi (the layout of package `moshi`). The second
is renamed into the first. It rotates neighbouring channels of a head together, the first its halves:
the rows of queries and keys are put in that order.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from paluku.codec.mimi_nets import MimiConfig
from paluku.errors import CheckpointError

# One name that only each layout has.
TRANSFORMERS_MARK = "quantizer.semantic_residual_vector_quantizer.layers.0.codebook.embed_sum"
MOSHI_MARK = "quantizer.rvq_first.vq.layers.0._codebook.embedding_sum"
# The published codes divide by the count of an entry, but never by less.
COUNT_FLOOR = 1e-5
# Said of training only; and the codebooks beyond those that are asked for.
UNREAD = re.compile(r"\.initialized$|^quantizer\..*\.codebook\.(embed_sum|cluster_usage)$")
TO_TRANSFORMERS = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"_transformer\.transformer\.", "_transformer."),
    (r"(\.conv|\.convtr)+\.", ".conv."),
    (r"\.norm1\.", ".input_layernorm."),
    (r"\.norm2\.", ".post_attention_layernorm."),
    (r"\.layer_scale_1\.", ".self_attn_layer_scale."),
    (r"\.layer_scale_2\.", ".mlp_layer_scale."),
    (r"\.linear(\d)\.", r".mlp.fc\1."),
    (r"\.out_proj(s\.0)?\.weight$", ".o_proj.weight"),
    (r"\.rvq_first\.", ".semantic_residual_vector_quantizer."),
    (r"\.rvq_rest\.", ".acoustic_residual_vector_quantizer."),
    (r"\.vq\.layers\.", ".layers."),
    (r"\._codebook\._?", ".codebook."),
    (r"\.embedding_sum$", ".embed_sum"),
)
# `in_proj_weight` in the file, `in_projs.0.weight` in what today's package saves.
JOINED = re.compile(r"^(.*\.self_attn)\.in_proj(?:_weight|\.weight|s\.0\.weight)$")


def read(path: Path, config: MimiConfig, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a published file under the names, and with the shapes, of `wanted`; float32.

    Raises:
        CheckpointError: when the file is missing, cut off, no safetensors, or not a Mimi of these sizes.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({error}); it is missing, cut off or of another format: "
            "fetch Mimi's file again"
        ) from error
    if MOSHI_MARK in tensors:
        tensors = _from_moshi(tensors, config.heads)
    if TRANSFORMERS_MARK not in tensors:
        raise CheckpointError(
            f"{path} does not hold Mimi's weights (no {TRANSFORMERS_MARK}, no {MOSHI_MARK}); give "
            "kyutai/mimi's model.safetensors or Moshi's tokenizer-e351c8d8-checkpoint125.safetensors"
        )
    return _Reader(path, tensors, config).read(wanted)


def _from_moshi(tensors: Mapping[str, Tensor], heads: int) -> dict[str, Tensor]:
    """The names of `transformers`; queries, keys and values apart."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if (joined := JOINED.match(name)) is not None:
            queries, keys, values = tensor.tensor_split(3)
            renamed[f"{joined[1]}.q_proj.weight"] = _halved(queries, heads)
            renamed[f"{joined[1]}.k_proj.weight"] = _halved(keys, heads)
            renamed[f"{joined[1]}.v_proj.weight"] = values
        else:
            renamed[_renamed(name)] = tensor
    return {_renamed(name): tensor for name, tensor in renamed.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in TO_TRANSFORMERS:
        name = re.sub(pattern, replacement, name)
    return name


def _halved(weight: Float[Tensor, "R D"], heads: int) -> Float[Tensor, "R D"]:
    """Each head's even rows, then its odd ones. Another number of rows is left to be refused."""
    if weight.shape[0] % (2 * heads):
        return weight
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


class _Reader:
    """Takes tensors out of a file, of the shapes they must have, until nothing of Mimi's is left."""

    def __init__(self, path: Path, tensors: dict[str, Tensor], config: MimiConfig) -> None:
        self.path, self.tensors, self.config = path, tensors, config

    def read(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor of `wanted`.

        Raises:
            CheckpointError: when one is missing, of another shape, or left over.
        """
        config = self.config
        weights = {
            name: self._take(_published(name), tensor.shape)
            for name, tensor in wanted.items()
            if re.match(r"(encoder|decoder)\.|(down|up)sample\.", name)
        }
        for side in ("encoder", "decoder"):
            for index in range(config.layers):
                block = self._block(f"{side}_transformer.layers.{index}")
                weights |= {f"{side}_transformer.blocks.{index}.{name}": part for name, part in block.items()}
        for part, count in (("semantic", 1), ("acoustic", config.num_codebooks - 1)):
            books = self._codebooks(f"quantizer.{part}_residual_vector_quantizer", count)
            weights |= {f"quantizer.{part}.{name}": tensor for name, tensor in books.items()}
        self._check_nothing_is_left()
        assert weights.keys() == wanted.keys(), f"names differ: {weights.keys() ^ wanted.keys()}"
        return weights

    def _block(self, prefix: str) -> dict[str, Tensor]:
        dim, inside = self.config.dim, self.config.feedforward

        def take(name: str, *shape: int) -> Tensor:
            return self._take(f"{prefix}.{name}", shape)

        projections = [take(f"self_attn.{letter}_proj.weight", dim, dim) for letter in "qkv"]
        attention_scale = take("self_attn_layer_scale.scale", dim)[:, None]
        feedforward_scale = take("mlp_layer_scale.scale", dim)[:, None]
        return {
            "attention_norm.weight": take("input_layernorm.weight", dim),
            "attention_norm.bias": take("input_layernorm.bias", dim),
            "attention.project_in.weight": torch.cat(projections),
            "attention.project_out.weight": attention_scale * take("self_attn.o_proj.weight", dim, dim),
            "feedforward_norm.weight": take("post_attention_layernorm.weight", dim),
            "feedforward_norm.bias": take("post_attention_layernorm.bias", dim),
            "widen.weight": take("mlp.fc1.weight", inside, dim),
            "narrow.weight": feedforward_scale * take("mlp.fc2.weight", dim, inside),
        }

    def _codebooks(self, prefix: str, count: int) -> dict[str, Tensor]:
        dim, size, inside = self.config.dim, self.config.codebook_size, self.config.codebook_dim
        entries = torch.zeros(count, size, inside)
        for index in range(count):
            sums = self._take(f"{prefix}.layers.{index}.codebook.embed_sum", (size, inside))
            counts = self._take(f"{prefix}.layers.{index}.codebook.cluster_usage", (size,))
            entries[index] = sums / counts.clamp(min=COUNT_FLOOR)[:, None]
        return {
            "input_proj.weight": self._take(f"{prefix}.input_proj.weight", (inside, dim, 1)),
            "output_proj.weight": self._take(f"{prefix}.output_proj.weight", (dim, inside, 1)),
            "entries": entries,
            "half_squares": entries.square().sum(dim=-1) / 2,
        }

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.tensors.pop(name, None)
        if tensor is None:
            raise CheckpointError(
                f"{self.path} lacks {name}: it is not a Mimi of these sizes; fetch Mimi's file"
            )
        if tensor.shape != shape:
            raise CheckpointError(
                f"{self.path}: {name} is {list(tensor.shape)}, Mimi's is {list(shape)}; "
                "it is another architecture: fetch Mimi's file"
            )
        return tensor.float()

    def _check_nothing_is_left(self) -> None:
        left = sorted(name for name in self.tensors if not UNREAD.search(name))
        if left:
            raise CheckpointError(
                f"{self.path} holds {len(left)} tensors that Mimi has not ({left[0]} ...); "
                "it is another architecture: fetch Mimi's file"
            )


def _published(name: str) -> str:
    """What `transformers` calls a convolution's tensor."""
    name = re.sub(r"^(\w+\.layers\.\d+)\.layers\.", r"\1.block.", name)
    module, _, kind = name.rpartition(".")
    return f"{module}.conv.{kind}"
