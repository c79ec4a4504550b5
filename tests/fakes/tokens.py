"""Small folders of tokens, and a training run on them that takes a second."""

from pathlib import Path
from typing import Any

import numpy as np

from paluku.corpus.shards import Manifest, write_manifest, write_shard
from paluku.s2s.model import DepthConfig, S2SConfig
from paluku.training.s2s_config import S2STrainingConfig
from paluku.voices import STYLES, VOICES

K, V, TEXT = 3, 12, 20
TINY_S2S = S2SConfig(
    num_codebooks=K,
    codebook_size=V,
    text_vocab=TEXT,
    dim=32,
    layers=1,
    heads=2,
    window=8,
    speaker_dim=6,
    depth=DepthConfig(dim=16, layers=1, heads=2),
)


def token_row(number: int, frames: int, split: str) -> dict[str, Any]:
    """Random tokens from the row's own number."""
    random = np.random.default_rng(number)
    return {
        "id": f"dialogue-{number}",
        "split": split,
        "voice": VOICES[number % len(VOICES)],
        "style": STYLES[number % len(STYLES)],
        "num_frames": frames,
        "agent_codes": random.integers(0, V, K * frames).astype(np.int16),
        "user_codes": random.integers(0, V, K * frames).astype(np.int16),
        "text": random.integers(0, TEXT, frames).astype(np.int16),
        "user_text": random.integers(0, TEXT, frames).astype(np.int16),
        "user_turns": [],
    }


def write_tokens(
    folder: Path, train: int = 6, dev: int = 3, codec: str = "codec-1", tokenizer: str = "tokenizer-1"
) -> Path:
    """Dialogues of 5 to 14 frames."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        write_shard(
            folder,
            "tokens",
            split,
            0,
            [token_row(first + n, 5 + (first + n) % 10, split) for n in range(count)],
        )
        for split, first, count in (("train", 0, train), ("dev", 100, dev))
    ]
    parents = {"codec": codec, "dialogues": "dialogues-1", "tokenizer": tokenizer}
    write_manifest(
        folder, Manifest(kind="tokens", config_sha256="0" * 64, parents=parents, shards=tuple(shards))
    )
    return folder


def tiny_s2s_run(tokens: Path, out: Path, **changes: Any) -> S2STrainingConfig:
    """Ten steps."""
    values = {
        "tokens": tokens,
        "out": out,
        "model": TINY_S2S,
        "speakers": "none",
        "steps": 10,
        "batch": 4,
        "max_frames": 10,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "log_every": 1,
        "evaluate_every": 10,
        "evaluate_batches": 2,
        "checkpoint_every": 5,
        "bfloat16": False,
    }
    return S2STrainingConfig.model_validate(values | changes)
