"""A small corpus of vowel-like sound: harmonics of a gliding pitch under two moving formants."""

from pathlib import Path

import numpy as np

from paluku.audio import to_flac
from paluku.corpus.shards import Manifest, ShardInfo, Split, write_manifest, write_shard


def vowel(seed: int, duration_s: float, rate_hz: int) -> np.ndarray:
    """Float32 `[S]`, loud in the middle."""
    random = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    pitch_hz = random.uniform(100, 220) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(1, 3) * time_s))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    formants_hz = random.uniform(300, 900) + 100 * np.sin(5 * time_s), random.uniform(1200, 2200)
    wave = np.zeros_like(time_s)
    for harmonic in range(1, 16):
        loudness = sum(np.exp(-(((harmonic * pitch_hz - formant) / 200) ** 2)) for formant in formants_hz)
        wave += loudness * np.sin(harmonic * phase)
    return (0.3 * wave / np.abs(wave).max() * np.sin(np.pi * time_s / duration_s)).astype(np.float32)


def write_utterances(folder: Path, *, train: int, dev: int, duration_s: float, rate_hz: int) -> Path:
    """A folder of utterances for `ShardSet`, in one shard a split."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = (
        _shard(folder, "train", range(train), duration_s, rate_hz),
        _shard(folder, "dev", range(1000, 1000 + dev), duration_s, rate_hz),
    )
    write_manifest(folder, Manifest(kind="utterances", config_sha256="0" * 64, shards=shards))
    return folder


def _shard(folder: Path, split: Split, seeds: range, duration_s: float, rate_hz: int) -> ShardInfo:
    rows = []
    for seed in seeds:
        wave = vowel(seed, duration_s, rate_hz)
        row = {"id": f"vowel-{seed}", "audio": to_flac(wave, rate_hz), "sample_rate_hz": rate_hz}
        about = {"language": "te", "speaker": "fake", "source": "fake", "licence": "CC0-1.0", "split": split}
        rows.append(row | about | {"num_samples": len(wave), "text": None})
    return write_shard(folder, "utterances", split, 0, rows)
