"""One frame in our engine and in package `moshi`, of the same sizes and random weights: what is timed."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from paluku.codec.port import Codec
from paluku.config import resolve
from paluku.registry.codecs import load_codec, shipped_codec, with_first_codebooks
from paluku.s2s.config import S2SConfig
from paluku.s2s.duplex import NO_FRAME
from paluku.s2s.model import S2SModel
from paluku.streaming.fused import FusedStage
from paluku.streaming.ports import Batch, Conditions, Stage
from paluku.streaming.stages import ConverseStage, DecodeStage, EncodeStage
from paluku.units import PCM16_SCALE

CONFIGS = Path(__file__).parent / "configs"

Step = Callable[[], object]


def sizes(name: str) -> S2SConfig:
    """The `model` of jobs/configs/train_s2s.NAME.yaml; `tiny` is the shipped one."""
    path = CONFIGS / ("train_s2s.yaml" if name == "tiny" else f"train_s2s.{name}.yaml")
    return resolve(S2SConfig, yaml.safe_load(path.read_text()).get("model", {}), str(path))


def codec_of(config: S2SConfig, device: str) -> Codec | None:
    """The shipped one; none for a model of another codec's codes."""
    _, codec = load_codec(shipped_codec())
    if config.codebook_size != codec.codebook_size:
        return None
    return with_first_codebooks(codec, config.num_codebooks, "the shipped codec").to(device)


def random_model(config: S2SConfig, device: str) -> S2SModel:
    """Seeded, in eval mode; in bfloat16 on a GPU."""
    torch.manual_seed(0)
    with torch.device(device):
        model = S2SModel(config).eval().requires_grad_(False)
    return model.bfloat16() if device == "cuda" else model


def ours(model: S2SModel, seats: int, codec: Codec | None, *, compiled: bool) -> Step:
    """A tick of a table that is full: Encode, Converse and Decode, or without a codec Converse alone."""
    converse, stage = ConverseStage(model, seats, compiled=compiled), None
    if codec is not None:
        stage = FusedStage(EncodeStage(codec, seats), converse, DecodeStage(codec, seats))
    batches = _inputs(seats, model.config, codec)
    return _stepping(stage or converse, seats, batches)


def _inputs(seats: int, config: S2SConfig, codec: Codec | None) -> list[Batch]:
    """Some frames of noise for every seat."""
    everyone, rng = np.arange(seats, dtype=np.int32), np.random.default_rng(0)
    if codec is None:
        shape = 8, seats, config.num_codebooks
        frames = rng.integers(0, config.codebook_size, shape)
    else:
        frames = rng.normal(0, 0.1 * PCM16_SCALE, (8, seats, codec.frame_samples))
    return [Batch(everyone, frame.astype(np.int16)) for frame in frames]


def _stepping(stage: Stage, seats: int, batches: Sequence[Batch]) -> Step:
    for seat in range(seats):
        stage.open(seat, Conditions(seed=seat))
    count = 0

    def step() -> object:
        nonlocal count
        count += 1
        return stage.step(batches[count % len(batches)])

    return step


def moshi(config: S2SConfig, batch: int, device: str) -> Step:
    """A step of package `moshi`'s `LMGen`; torch.compile is off in it, and CUDA graphs on a CPU.

    `make setup` installs it.
    """
    os.environ["NO_TORCH_COMPILE"] = "1"
    if device != "cuda":
        os.environ["NO_CUDA_GRAPH"] = "1"
    from moshi.models.lm import LMGen, LMModel

    depth, K = config.depth, config.num_codebooks
    late = [0, *[config.acoustic_delay] * (K - 1)]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    language_model = LMModel(
        delays=[0, *late, *late], n_q=2 * K, dep_q=K, card=config.codebook_size, text_card=config.text_vocab,
        dim=config.dim, num_heads=config.heads, num_layers=config.layers, context=config.window,
        hidden_scale=_scale(config), causal=True, max_period=10_000,
        norm="rms_norm_f32", gating="silu", positional_embedding="rope",
        depformer_dim=depth.dim, depformer_num_heads=depth.heads, depformer_num_layers=depth.layers,
        depformer_dim_feedforward=_hidden(depth.feedforward_dim, depth.dim), depformer_context=K,
        depformer_multi_linear=True, depformer_weights_per_step=True, depformer_gating="silu",
        # It streams only with matrices per step: where ours are shared, each of its steps takes the first.
        depformer_weights_per_step_schedule=None if depth.per_step else [0] * K,
        depformer_pos_emb="rope" if depth.rotary else "none", device=device, dtype=dtype,
    ).eval()  # fmt: skip
    generation = LMGen(language_model.requires_grad_(False), temp=0.8, top_k=50)
    generation.streaming_forever(batch)
    heard = torch.zeros(batch, K, 1, dtype=torch.int64, device=device)

    def step() -> object:
        told = generation.step(heard)
        return NO_FRAME if told is None else told.cpu()

    return step


def _scale(config: S2SConfig) -> Any:
    """`moshi` says int, and its own sizes have 4.125."""
    return _hidden(config.feedforward_dim, config.dim) / config.dim


def _hidden(own: int | None, dim: int) -> int:
    """What `moshi` calls a gated feed-forward whose inner width is ours: it takes two thirds of it."""
    from paluku.nn.transformer import default_feedforward

    return (own or default_feedforward(dim)) * 3 // 2
