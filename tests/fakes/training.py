"""A reporter that remembers, and a codec training run that takes a second."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paluku.codec.native import NativeCodecConfig, NetConfig
from paluku.codec.quantizer import QuantizerConfig
from paluku.training.codec_loop import CodecTrainingConfig

# The lowest rate that audio files may have: half the samples.
RATE_HZ = 8_000
TINY_CODEC = NativeCodecConfig(
    sample_rate_hz=RATE_HZ,
    hop_samples=80,
    bands=8,
    latent_dim=32,
    encoder=NetConfig(hidden=16, units=1),
    decoder=NetConfig(hidden=16, units=1),
    num_codebooks=4,
    codebook_size=16,
    # Forgets quickly, so that entries die and are revived within ten steps.
    quantizer=QuantizerConfig(decay=0.8, dead_share=0.2, revive_every=2),
)


class MemoryReporter:
    """Implements `training.ports.Reporter`; everything reported stays in its lists."""

    def __init__(self, run_id: str = "run") -> None:
        self.run_id = run_id
        self.reported: list[tuple[int, dict[str, float]]] = []
        self.artifacts: list[tuple[Path, str]] = []
        self.checkpoints: list[tuple[Path | None, int]] = []

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.reported.append((step, dict(values)))

    def artifact(self, path: Path, folder: str) -> None:
        self.artifacts.append((path, folder))

    def checkpoint(self, folder: Path | None, step: int) -> None:
        self.checkpoints.append((folder, step))

    def curve(self, name: str) -> list[tuple[int, float]]:
        """One metric over the steps."""
        return [(step, values[name]) for step, values in self.reported if name in values]


def tiny_run(corpus: Path, out: Path, **changes: Any) -> CodecTrainingConfig:
    """Ten steps; the codebooks come in after two."""
    values = {
        "corpus": corpus,
        "out": out,
        "model": TINY_CODEC,
        "steps": 10,
        "batch": 4,
        "crop_s": 0.4,
        "warmup_steps": 2,
        "quantise_after_steps": 2,
        "prepare_from_batches": 2,
        "log_every": 1,
        "evaluate_every": 10,
        "evaluate_clips": 2,
        "evaluate_s": 0.8,
        "checkpoint_every": 5,
    }
    return CodecTrainingConfig.model_validate(values | changes)
