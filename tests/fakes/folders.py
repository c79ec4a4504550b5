"""Small folders of utterances and dialogues as a build leaves them, made without one."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from paluku import audio
from paluku.corpus.shards import Kind, Manifest, Split, write_manifest, write_shard, write_table

RATE_HZ = 16_000
REJECT = pa.schema(
    [*((name, pa.string()) for name in ("id", "source", "reason", "detail")), ("duration_s", pa.float32())]
)


def tone(seconds: float, channels: int = 1, pitch_hz: float = 220.0) -> np.ndarray:
    """A wave `[S, C]`; each channel an octave above the one before."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.stack([0.3 * np.sin(2**c * 2 * np.pi * pitch_hz * time_s) for c in range(channels)], 1).astype(
        np.float32
    )


def utterance(number: int, seconds: float = 1.0, **columns: Any) -> dict[str, Any]:
    """A row; given columns win."""
    row = {
        "id": f"corpus/{number:04d}",
        "audio": audio.to_flac(tone(seconds), RATE_HZ),
        "sample_rate_hz": RATE_HZ,
        "num_samples": round(seconds * RATE_HZ),
        "text": "నమస్కారం",
        "language": "te",
        "speaker": f"speaker-{number % 3}",
        "gender": "female",
        "source": "corpus",
        "licence": "CC0-1.0",
        "split": "train",
        "origin": f"{number}.wav",
        "start_s": 0.0,
        "end_s": seconds,
        "source_rate_hz": 22_050,
        "snr_db": 30.0,
        "bandwidth_hz": 7000,
        "clipped_share": 0.0,
        "silence_share": 0.1,
        "loudness_lufs": -24.0,
        "gain_db": 1.0,
        "fingerprint": b"\0" * 8,
    }
    return row | columns


def turn(role: str, start_s: float, end_s: float, kind: str = "turn", text: str = "అవును") -> dict[str, Any]:
    """A turn of one word."""
    words = [{"text": text, "start_s": start_s, "end_s": end_s}]
    times = {"start_s": start_s, "end_s": end_s}
    return {"role": role, "text": text, **times, "kind": kind, "words": words, "is_timed": role == "agent"}


def dialogue(number: int, seconds: float = 4.0, **columns: Any) -> dict[str, Any]:
    """A row; given columns win."""
    row = {
        "id": f"dialogue/{number:04d}",
        "audio": audio.to_flac(tone(seconds, channels=2), RATE_HZ),
        "sample_rate_hz": RATE_HZ,
        "num_samples": round(seconds * RATE_HZ),
        "voice": "priya",
        "style": "happy",
        "user_voice": f"user_{number % 2}",
        "intents": ["weather.today"],
        "turns": [turn("user", 0.2, 1.2), turn("agent", 1.35, 3.5)],
        "augmentation": "{}",
        "source": "te_turns",
        "licence": "CC0-1.0",
        "split": "train",
    }
    return row | columns


def write_folder(
    folder: Path, kind: Kind, rows: Iterable[Mapping[str, Any]], rejects: Iterable[Mapping[str, Any]] = ()
) -> Manifest:
    """One shard for each split that has rows, the rejects, and the manifest."""
    by_split: dict[Split, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_split.setdefault(row["split"], []).append(row)
    shards = tuple(write_shard(folder, kind, split, 0, its) for split, its in by_split.items())
    write_table(folder, "rejects.parquet", pa.Table.from_pylist(list(map(dict, rejects)), schema=REJECT))
    manifest = Manifest(kind=kind, config_sha256="0" * 64, shards=shards)
    write_manifest(folder, manifest)
    return manifest
