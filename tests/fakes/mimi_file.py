"""Mimi's published file in small: random weights under the published names and in the published order."""

import math

import torch
from torch import Tensor

from paluku.codec.mimi_nets import MimiConfig

# The published geometry with few channels; a window that eight frames' sixteen latents outgrow.
SIZES = MimiConfig(
    filters=4,
    dim=16,
    layers=2,
    heads=2,
    feedforward=24,
    window=6,
    codebook_dim=8,
    codebook_size=32,
    num_codebooks=5,
)
SEMANTIC, ACOUSTIC = (f"quantizer.{part}_residual_vector_quantizer" for part in ("semantic", "acoustic"))
BLOCKS = [f"{side}_transformer.layers.{layer}" for side in ("encoder", "decoder") for layer in (0, 1)]


GENERATOR = torch.Generator().manual_seed(0)


def noise(*shape: int, fan_in: int = 1) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR) / math.sqrt(fan_in)


def convolution(name: str, into: int, outof: int, kernel: int) -> dict[str, Tensor]:
    weight = noise(outof, into, kernel, fan_in=into * kernel // 2)
    return {f"{name}.conv.weight": weight, f"{name}.conv.bias": noise(outof) / 5}


def residual(name: str, channels: int) -> dict[str, Tensor]:
    wide = convolution(f"{name}.block.1", channels, channels // 2, 3)
    return wide | convolution(f"{name}.block.3", channels // 2, channels, 1)


def seanets() -> dict[str, Tensor]:
    tensors = convolution("encoder.layers.0", 1, 4, 7)
    for index, (channels, ratio) in enumerate([(4, 4), (8, 5), (16, 6), (32, 8)]):
        tensors |= residual(f"encoder.layers.{3 * index + 1}", channels)
        tensors |= convolution(f"encoder.layers.{3 * index + 3}", channels, 2 * channels, 2 * ratio)
    tensors |= convolution("encoder.layers.14", 64, 16, 3)
    tensors |= convolution("decoder.layers.0", 16, 64, 7)
    for index, (channels, ratio) in enumerate([(64, 8), (32, 6), (16, 5), (8, 4)]):
        name = f"decoder.layers.{3 * index + 2}.conv"
        tensors[f"{name}.weight"] = noise(channels, channels // 2, 2 * ratio, fan_in=channels)
        tensors[f"{name}.bias"] = noise(channels // 2) / 5
        tensors |= residual(f"decoder.layers.{3 * index + 3}", channels // 2)
    return tensors | convolution("decoder.layers.14", 4, 1, 3)


def transformer_layer(name: str) -> dict[str, Tensor]:
    tensors = {f"{name}.self_attn.{letter}_proj.weight": noise(16, 16, fan_in=16) for letter in "qkvo"}
    tensors[f"{name}.mlp.fc1.weight"] = noise(24, 16, fan_in=16)
    tensors[f"{name}.mlp.fc2.weight"] = noise(16, 24, fan_in=24)
    for norm in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"{name}.{norm}.weight"] = 1 + noise(16) / 5
        tensors[f"{name}.{norm}.bias"] = noise(16) / 5
    tensors[f"{name}.self_attn_layer_scale.scale"] = noise(16) / 2
    tensors[f"{name}.mlp_layer_scale.scale"] = noise(16) / 2
    return tensors


def codebooks(name: str, count: int) -> dict[str, Tensor]:
    tensors = {f"{name}.input_proj.weight": noise(8, 16, 1, fan_in=16)}
    tensors[f"{name}.output_proj.weight"] = noise(16, 8, 1, fan_in=8)
    for layer in range(count):
        book, usage = f"{name}.layers.{layer}.codebook", 1 + noise(32).abs()
        tensors[f"{book}.cluster_usage"] = usage
        tensors[f"{book}.embed_sum"] = noise(32, 8) * usage[:, None] * 1.5
        tensors[f"{book}.initialized"] = torch.ones(1)
    return tensors


def published_tensors() -> dict[str, Tensor]:
    """Random weights under the names, and in the shapes, of kyutai/mimi's model.safetensors."""
    tensors = seanets() | codebooks(SEMANTIC, 1) | codebooks(ACOUSTIC, 4)
    for name in BLOCKS:
        tensors |= transformer_layer(name)
    tensors["downsample.conv.weight"] = noise(16, 16, 4, fan_in=64)
    tensors["upsample.conv.weight"] = noise(16, 1, 4)
    return tensors


def as_moshi(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as Moshi's tokenizer-e351c8d8-checkpoint125.safetensors has them."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        side, _, rest = name.partition(".")
        if side in ("encoder", "decoder"):
            index = int(rest.split(".")[1])
            kind = "convtr.convtr" if side == "decoder" and index in (2, 5, 8, 11) else "conv.conv"
            renamed[name.replace(".layers.", ".model.").replace(".conv.", f".{kind}.")] = tensor
        elif side == "downsample":
            renamed["downsample.conv.conv.conv.weight"] = tensor
        elif side == "upsample":
            renamed["upsample.convtr.convtr.convtr.weight"] = tensor
        elif side == "quantizer":
            name = name.replace("semantic_residual_vector_quantizer", "rvq_first")
            name = name.replace("acoustic_residual_vector_quantizer", "rvq_rest").replace(
                ".layers.", ".vq.layers."
            )
            name = name.replace(".codebook.", "._codebook.").replace("embed_sum", "embedding_sum")
            renamed[name.replace(".initialized", "._initialized")] = tensor
        elif not rest.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            rest = rest.replace("input_layernorm", "norm1").replace("post_attention_layernorm", "norm2")
            rest = rest.replace("self_attn_layer_scale", "layer_scale_1").replace("o_proj", "out_proj")
            rest = rest.replace("mlp_layer_scale", "layer_scale_2").replace("mlp.fc", "linear")
            renamed[f"{side}.transformer.{rest}"] = tensor
    for block in [
        f"{side}_transformer.layers.{layer}" for side in ("encoder", "decoder") for layer in (0, 1)
    ]:
        parts = [tensors[f"{block}.self_attn.{letter}_proj.weight"] for letter in "qkv"]
        # Two heads of eight channels: the pairs (0, 4), (1, 5) ... of `transformers` are neighbours here.
        order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15])
        joined = torch.cat([parts[0][order], parts[1][order], parts[2]])
        renamed[block.replace(".layers", ".transformer.layers") + ".self_attn.in_proj_weight"] = joined
    return renamed
