"""Features that a teacher might have heard: the level of each frame in a few bands, whitened."""

from pathlib import Path

import numpy as np

from paluku.audio import read_mono
from paluku.corpus.shards import (
    Manifest,
    ShardInfo,
    ShardSet,
    Split,
    read_manifest,
    write_manifest,
    write_shard,
)
from paluku.corpus.teacher.extraction import STORED
from paluku.units import frame_samples


def write_features(folder: Path, corpus: Path, dims: int, splits: tuple[Split, ...] = ("train",)) -> Path:
    """For every utterance of the splits, whitened by the first one's."""
    folder.mkdir(parents=True)
    heard = {split: _heard(ShardSet(corpus, "utterances", split), dims) for split in splits}
    every = np.concatenate([levels for _, levels in heard[splits[0]]])
    mean, deviation = every.mean(0), every.std(0) + 1e-6
    shards: list[ShardInfo] = []
    for split, utterances in heard.items():
        white = [(name, ((levels - mean) / deviation).astype(STORED)) for name, levels in utterances]
        rows = [
            {"id": name, "split": split, "num_frames": len(levels), "features": levels.tobytes()}
            for name, levels in white
        ]
        shards.append(write_shard(folder, "features", split, 0, rows))
    manifest = Manifest(
        kind="features",
        config_sha256="0" * 64,
        parents={"utterances": read_manifest(corpus, "utterances").hash},
        shards=tuple(shards),
        recipe={"dims": dims},
    )
    write_manifest(folder, manifest)
    return folder


def _heard(utterances: ShardSet, dims: int) -> list[tuple[str, np.ndarray]]:
    rows = utterances.rows(range(len(utterances)))
    return [
        (row["id"], _levels(read_mono(row["audio"], row["sample_rate_hz"], row["id"]), row, dims))
        for row in rows
    ]


def _levels(wave: np.ndarray, row: dict, dims: int) -> np.ndarray:
    """`[T, dims]`."""
    frame = frame_samples(row["sample_rate_hz"])
    frames = wave[: len(wave) // frame * frame].reshape(-1, frame)
    power = np.abs(np.fft.rfft(frames * np.hanning(frame), axis=1)[:, 1:]) ** 2
    return np.log(np.stack([band.mean(1) for band in np.array_split(power, dims, axis=1)], axis=1) + 1e-6)
