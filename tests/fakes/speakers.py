"""People who differ in pitch and vocal tract, a corpus of them, and a speaker training run of a second."""

from pathlib import Path
from typing import Any

import numpy as np

from paluku.audio import to_flac
from paluku.corpus.shards import Manifest, ShardInfo, Split, write_manifest, write_shard
from paluku.speakers.encoder import SpeakerEncoderConfig
from paluku.training.speaker_config import SpeakerTrainingConfig

RATE_HZ = 8_000
TINY_ENCODER = SpeakerEncoderConfig.model_validate(
    {
        "mel": {
            "sample_rate_hz": RATE_HZ,
            "window_samples": 200,
            "hop_samples": 80,
            "fft_samples": 256,
            "bands": 16,
        },
        "channels": 16,
        "dilations": (2,),
        "scale": 2,
        "squeeze_dim": 4,
        "pooled_channels": 24,
        "attention_dim": 8,
        "dim": 12,
    }
)


def voice(speaker: int, seed: int, duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Float32 `[S]`: syllables at a person's own pitch and formants, which an utterance moves a little."""
    person, random = np.random.default_rng((7, speaker)), np.random.default_rng((speaker, seed))
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    glide = 1 + 0.05 * np.sin(2 * np.pi * random.uniform(1, 3) * time_s + random.uniform(0, 6))
    pitch_hz = person.uniform(80, 260) * glide
    formants_hz = person.uniform([300, 1_000, 2_200], [900, 2_000, 3_600]) * random.uniform(0.98, 1.02)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    wave = np.zeros_like(time_s)
    for harmonic in range(1, int(0.45 * rate_hz / pitch_hz.max())):
        gain = sum(1 / (1 + ((harmonic * pitch_hz - formant) / 150) ** 2) for formant in formants_hz)
        wave += gain * np.sin(harmonic * phase)
    # Pauses are half of it: what never changes is not heard (`speakers.mel`).
    envelope = np.sqrt(np.maximum(np.sin(2 * np.pi * random.uniform(3, 5) * time_s), 0))
    return (0.2 * wave / np.abs(wave).max() * envelope).astype(np.float32)


def write_speakers(
    folder: Path, *, train: int, dev: int, each: int = 3, duration_s: float = 0.8, rate_hz: int = RATE_HZ
) -> Path:
    """A folder of utterances for `ShardSet`: so many people a split, so many utterances of each."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = (
        _shard(folder, "train", range(train), each, duration_s, rate_hz),
        _shard(folder, "dev", range(100, 100 + dev), each, duration_s, rate_hz),
    )
    write_manifest(folder, Manifest(kind="utterances", config_sha256="0" * 64, shards=shards))
    return folder


def _shard(
    folder: Path, split: Split, people: range, each: int, duration_s: float, rate_hz: int
) -> ShardInfo:
    rows = []
    for number in range(each):  # so that rows of one person do not follow each other
        for person in people:
            wave = voice(person, number, duration_s, rate_hz)
            row = {"id": f"p{person}-{number}", "audio": to_flac(wave, rate_hz), "sample_rate_hz": rate_hz}
            about = {"language": "te", "source": "fake", "licence": "CC0-1.0", "split": split}
            rows.append(row | about | {"speaker": f"p{person}", "num_samples": len(wave), "text": None})
    return write_shard(folder, "utterances", split, 0, rows)


def tiny_speaker_run(corpus: Path, out: Path, **changes: Any) -> SpeakerTrainingConfig:
    """Ten steps."""
    values = {
        "corpus": corpus,
        "out": out,
        "model": TINY_ENCODER,
        "speeds": (1.0,),
        "steps": 10,
        "batch": 4,
        "crop_s": (0.4, 0.6),
        "warmup_steps": 2,
        "log_every": 1,
        "evaluate_every": 10,
        "checkpoint_every": 5,
    }
    return SpeakerTrainingConfig.model_validate(values | changes)
