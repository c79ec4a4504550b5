"""Moshi in small, of `transformers`' own classes with seeded random weights."""

import os

import torch
from torch import Tensor

from paluku.s2s.config import DepthConfig
from paluku.s2s.moshi_layout import moshi_7b
from paluku.torchaudio_cpu import prepare_torchaudio

K, V, TEXT = 4, 16, 24
SIZES = moshi_7b().model_copy(
    update={
        "num_codebooks": K,
        "codebook_size": V,
        "text_vocab": TEXT,
        "dim": 32,
        "layers": 2,
        "heads": 4,
        "feedforward_dim": 40,
        "window": 50,
        "depth": DepthConfig(
            dim=16, layers=2, heads=2, feedforward_dim=24, per_step=True, rotary=False, last_norm=False
        ),
    }
)


def transformers_moshi() -> torch.nn.Module:
    """A `MoshiForConditionalGeneration` of `SIZES`, with the smallest Mimi."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    prepare_torchaudio()
    from transformers import MimiConfig, MoshiConfig, MoshiForConditionalGeneration

    mimi = MimiConfig(
        hidden_size=8, num_filters=4, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=8, codebook_size=V, codebook_dim=8, vector_quantization_hidden_dimension=8,
        num_quantizers=K, upsample_groups=8, head_dim=4,
    )  # fmt: skip
    depth = SIZES.depth
    config = MoshiConfig(
        vocab_size=TEXT, hidden_size=SIZES.dim, num_hidden_layers=SIZES.layers,
        num_attention_heads=SIZES.heads, sliding_window=SIZES.window, ffn_dim=2 * 40, num_codebooks=K,
        max_position_embeddings=SIZES.window,
        audio_encoder_config=mimi.to_dict(),
        depth_decoder_config={
            "hidden_size": depth.dim, "num_hidden_layers": depth.layers, "num_attention_heads": depth.heads,
            "ffn_dim": 2 * 24, "num_codebooks": K, "max_position_embeddings": K + 1, "sliding_window": K,
        },
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MoshiForConditionalGeneration(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:  # so that logits are of the order of 1, and wrong ones clearly wrong
                    weight.normal_(std=weight.shape[-1] ** -0.5)
                else:
                    weight.uniform_(0.5, 1.5)
    return model.eval().requires_grad_(False)


def moshi_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Its state dict without Mimi's part."""
    state = model.state_dict()
    return {name: x for name, x in state.items() if not name.startswith("audio_encoder.")}
