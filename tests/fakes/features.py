"""Features that a teacher might have heard: the level of each frame in a few bands, whitened."""

from pathlib import Path

import numpy as np

from paluku.audio import read_mono
from paluku.corpus.shards import Manifest, ShardInfo, ShardSet, read_manifest, write_manifest, write_shard
from paluku.corpus.teacher.extraction import STORED
from paluku.units import frame_samples


def write_features(folder: Path, corpus: Path, dims: int) -> Path:
    """For every utterance of the train split."""
    folder.mkdir(parents=True)
    rows = ShardSet(corpus, "utterances", "train").rows(range(len(ShardSet(corpus, "utterances", "train"))))
    heard = [_levels(read_mono(row["audio"], row["sample_rate_hz"], row["id"]), row, dims) for row in rows]
    every = np.concatenate(heard)
    white = [((levels - every.mean(0)) / (every.std(0) + 1e-6)).astype(STORED) for levels in heard]
    shards: list[ShardInfo] = [
        write_shard(
            folder,
            "features",
            "train",
            0,
            [
                {"id": row["id"], "split": "train", "num_frames": len(levels), "features": levels.tobytes()}
                for row, levels in zip(rows, white, strict=True)
            ],
        )
    ]
    manifest = Manifest(
        kind="features",
        config_sha256="0" * 64,
        parents={"utterances": read_manifest(corpus, "utterances").hash},
        shards=tuple(shards),
        recipe={"dims": dims},
    )
    write_manifest(folder, manifest)
    return folder


def _levels(wave: np.ndarray, row: dict, dims: int) -> np.ndarray:
    """`[T, dims]`."""
    frame = frame_samples(row["sample_rate_hz"])
    frames = wave[: len(wave) // frame * frame].reshape(-1, frame)
    power = np.abs(np.fft.rfft(frames * np.hanning(frame), axis=1)[:, 1:]) ** 2
    return np.log(np.stack([band.mean(1) for band in np.array_split(power, dims, axis=1)], axis=1) + 1e-6)
