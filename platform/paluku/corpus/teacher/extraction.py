"""What a task does with one shard of utterances: count what a basis is fitted to, or write the features."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from paluku.audio import read_mono
from paluku.config import Config
from paluku.corpus.building.standing import PARTS, WORK
from paluku.corpus.shard_rows import Rows
from paluku.corpus.shards import ShardInfo, ShardSet, write_shard
from paluku.corpus.splits import fraction
from paluku.corpus.storage import Place
from paluku.corpus.teacher.basis import Basis, Moments
from paluku.corpus.teacher.encoder import FRAME_RATE_HZ, RATE_HZ, SpeechEncoder, heard
from paluku.errors import CorpusError

BASIS = "basis.safetensors"
STORED = np.dtype("<f2")


class MomentsPlan(Config):
    """Count the frames of some utterances: those whose fraction (`corpus.splits`) is below `share`."""

    source: Rows
    share: float
    seed: int


class MomentsOutcome(Config):
    """Where the sums lie, below the work folder."""

    path: str
    num_bytes: int
    utterances: int
    frames: int


class FeaturesPlan(Config):
    """Write the features of every utterance in a basis of this hash."""

    source: Rows
    basis_sha256: str


class FeaturesOutcome(Config):
    """A shard of features, and its length in frames."""

    shard: ShardInfo
    frames: int


def count_moments(plan: MomentsPlan, out: Place, encoder: SpeechEncoder) -> MomentsOutcome:
    """Hear the drawn utterances of a shard and write their sums.

    Raises:
        CorpusError: when the corpus was exchanged, or a shard cannot be read.
        AudioError: when an utterance cannot be decoded.
        StorageError: when the place cannot be written.
    """
    moments, utterances = Moments.zero(encoder.width), 0
    for row in _utterances(plan.source):
        if fraction(row["id"], plan.seed) < plan.share:
            moments += Moments.of(_frames(row, encoder))
            utterances += 1
    name = f"{PARTS}/moments-{plan.source.split}-{plan.source.number:05d}.npy"
    data = moments.to_bytes()
    (out / WORK).write_bytes(name, data)
    return MomentsOutcome(path=name, num_bytes=len(data), utterances=utterances, frames=moments.num_frames)


def write_features(plan: FeaturesPlan, out: Place, encoder: SpeechEncoder) -> FeaturesOutcome:
    """Hear every utterance of a shard and write its features, in the same order.

    Raises:
        CorpusError: when the corpus or the basis was exchanged, or a shard cannot be read.
        AudioError: when an utterance cannot be decoded.
        StorageError: when the place cannot be written.
    """
    basis, source = read_basis(out, plan.basis_sha256), plan.source
    frames = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal frames
        for row in _utterances(source):
            features = basis.project(_frames(row, encoder)).astype(STORED)
            frames += len(features)
            yield {
                "id": row["id"],
                "split": source.split,
                "num_frames": len(features),
                "features": features.tobytes(),
            }

    shard = write_shard(out, "features", source.split, source.number, rows())
    return FeaturesOutcome(shard=shard, frames=frames)


def read_basis(out: Place, sha256: str) -> Basis:
    """The basis in a folder of features.

    Raises:
        CorpusError: when it is missing, damaged or another one.
    """
    data = out.read_bytes(BASIS)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorpusError(f"{out.named(BASIS)} was exchanged or damaged; extract the features again")
    return Basis.from_bytes(data, out.named(BASIS))


def _frames(row: dict[str, Any], encoder: SpeechEncoder) -> np.ndarray:
    num_frames = -(-row["num_samples"] * FRAME_RATE_HZ // row["sample_rate_hz"])
    return heard(read_mono(row["audio"], RATE_HZ, row["id"]), num_frames, encoder)


def _utterances(source: Rows) -> Iterator[dict[str, Any]]:
    """One at a time: a shard's sound never lies in memory as a whole."""
    utterances = ShardSet(source.corpus, "utterances", source.split)
    if utterances.manifest.hash != source.corpus_hash:
        raise CorpusError(
            f"{source.corpus} is another corpus ({utterances.manifest.hash}) than when this began "
            f"({source.corpus_hash}); start the extraction again"
        )
    for index in range(source.first, source.first + source.rows):
        yield utterances.rows([index])[0]
