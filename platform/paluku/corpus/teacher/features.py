"""Reading what the teacher heard, by utterance: 11.5 MB of memory an hour of speech at 64 dimensions."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paluku.corpus.shards import Manifest, ShardInfo, Split, read_manifest
from paluku.corpus.storage import Place
from paluku.corpus.teacher.encoder import FRAME_RATE_HZ
from paluku.corpus.teacher.extraction import STORED
from paluku.errors import CorpusError


class TeacherFeatures:
    """The features of one split, or of all, kept in memory as float16.

    Raises:
        CorpusError: when the folder is not whole, a shard is damaged, or (where `corpus_hash` is given) the
            features are of other utterances.
        StorageError: when the place cannot be reached.
    """

    frame_rate_hz = FRAME_RATE_HZ

    def __init__(
        self, folder: Path | str, split: Split | None = None, *, corpus_hash: str | None = None
    ) -> None:
        self.folder, place = folder, Place.of(folder)
        self.manifest = read_manifest(place, "features")
        if corpus_hash is not None:
            self._refuse_other(place, corpus_hash)
        self.dims = int(self.manifest.recipe["dims"])
        shards = [shard for shard in self.manifest.shards if split in (None, shard.split)]
        self._frames = {name: frames for shard in shards for name, frames in _read(place, shard, self.dims)}

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._frames

    def num_frames(self, utterance_id: str) -> int:
        """How many frames of 40 ms an utterance has; the last may be begun only.

        Raises:
            CorpusError: when the teacher never heard it.
        """
        return len(self._of(utterance_id))

    def crop(self, utterance_id: str, start_samples: int, num_frames: int, rate_hz: int) -> np.ndarray:
        """Float32 `[num_frames, D]`, to be laid beside the codec frames of a crop.

        The crop begins `start_samples` into the utterance, at `rate_hz`; its frame t takes the teacher's
        frame that begins nearest to `start_samples / rate_hz + t / 25` seconds: at most 20 ms away.
        Outside the utterance rows are zero, as no frame of sound is: a loss leaves them out.

        Raises:
            CorpusError: when the teacher never heard the utterance.
        """
        known = self._of(utterance_id)
        first = math.floor(start_samples * FRAME_RATE_HZ / rate_hz + 0.5)
        found = np.zeros((num_frames, self.dims), np.float32)
        begin, end = max(first, 0), min(first + num_frames, len(known))
        if begin < end:
            found[begin - first : end - first] = known[begin:end]
        return found

    def _of(self, utterance_id: str) -> np.ndarray:
        try:
            return self._frames[utterance_id]
        except KeyError:
            raise CorpusError(
                f"{self.folder} has no features of {utterance_id!r}; extract them from the corpus in use"
            ) from None

    def _refuse_other(self, place: Place, corpus_hash: str) -> None:
        known: Manifest = self.manifest
        if (found := known.parents.get("utterances")) != corpus_hash:
            raise CorpusError(
                f"{place} was extracted from the corpus {found}, this one is {corpus_hash}; "
                "run jobs.extract_teacher on it"
            )


def _read(place: Place, shard: ShardInfo, dims: int) -> list[tuple[str, np.ndarray]]:
    """Ids and frames of a shard, whose bytes are checked."""
    data, name = place.read_bytes(shard.path), place.named(shard.path)
    if (actual := hashlib.sha256(data).hexdigest()) != shard.sha256:
        raise CorpusError(
            f"{name} has sha256 {actual[:12]}, its manifest says {shard.sha256[:12]}; "
            "it is damaged or was exchanged: extract the features again"
        )
    table = pq.read_table(pa.BufferReader(data), columns=["id", "features"])
    ids, features = (table.column(column).to_pylist() for column in ("id", "features"))
    return [
        (key, np.frombuffer(row, STORED).reshape(-1, dims)) for key, row in zip(ids, features, strict=True)
    ]
