"""A speech encoder that hears only what sounds in a vector's own 20 ms, and a corpus for it to hear."""

from pathlib import Path

import numpy as np

from paluku.audio import to_flac
from paluku.corpus.shards import Manifest, ShardInfo, Split, write_manifest, write_shard
from tests.fakes.folders import utterance

HOP_SAMPLES = 320


class LocalEncoder:
    """Fixed random projections of the samples; `heard_s` lists the seconds of each window it was given."""

    width = 6
    heard_s: list[float] = []  # noqa: RUF012 (of all of them: tasks open their own)

    def __init__(self, digest: str = "local") -> None:
        self.digest = digest
        self._projection = np.random.default_rng(0).normal(size=(HOP_SAMPLES, self.width)).astype(np.float32)

    def encode(self, wave: np.ndarray) -> np.ndarray:
        self.heard_s.append(len(wave) / 16_000)
        return np.tanh(wave.reshape(-1, HOP_SAMPLES) @ self._projection)


def of_40_ms(encoder: LocalEncoder, wave: np.ndarray) -> np.ndarray:
    """What it hears in a whole wave, two vectors averaged at a time."""
    encoded = encoder.encode(wave)
    return (encoded[0::2] + encoded[1::2]) / 2


def noise(seed: int, num_samples: int) -> np.ndarray:
    """Float32 `[S]`, as FLAC keeps it."""
    wave = np.random.default_rng(seed).normal(scale=0.1, size=num_samples)
    return (np.rint(wave * 32768) / 32768).astype(np.float32)


def write_heard_corpus(folder: Path, shards: tuple[tuple[Split, int], ...], rate_hz: int = 16_000) -> Path:
    """A shard for each pair of split and rows, with noise of 1 to 2 s in each row."""
    folder.mkdir(parents=True, exist_ok=True)
    infos: list[ShardInfo] = []
    for place, (split, rows) in enumerate(shards):
        number = sum(info.split == split for info in infos)
        made = [_row(100 * place + row, split, rate_hz) for row in range(rows)]
        infos.append(write_shard(folder, "utterances", split, number, made))
    write_manifest(folder, Manifest(kind="utterances", config_sha256="0" * 64, shards=tuple(infos)))
    return folder


def _row(seed: int, split: Split, rate_hz: int) -> dict:
    wave = noise(seed, rate_hz + 977 * (seed % 13))
    return utterance(
        seed, split=split, audio=to_flac(wave, rate_hz), sample_rate_hz=rate_hz, num_samples=len(wave)
    )
