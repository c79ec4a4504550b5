"""Batches for codec training: random crops of utterances, each with a random number of codebooks.

Row, crop and number of codebooks are pure functions of the seed and of the row's position in the whole
run, so a resumed run, and any number of workers, read what one uninterrupted worker would.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from paluku.audio import read_mono
from paluku.corpus.shards import ShardSet
from paluku.shapes import MonoWave
from paluku.training.sampler import batch_indices
from paluku.training.world import World


class CropBatch(NamedTuple):
    """What one worker trains on in one step."""

    wave: MonoWave
    num_codebooks: Int[Tensor, "B"]

    def to(self, device: torch.device) -> "CropBatch":
        """The same on a device."""
        return CropBatch(self.wave.to(device), self.num_codebooks.to(device))


class Crops:
    """Crops of `crop_samples` from the utterances of a split; a shorter one is followed by silence."""

    def __init__(
        self, utterances: ShardSet, sample_rate_hz: int, crop_samples: int, num_codebooks: int, seed: int
    ) -> None:
        self.utterances = utterances
        self._rate_hz, self._crop_samples = sample_rate_hz, crop_samples
        self._num_codebooks, self._seed = num_codebooks, seed

    def batch(self, step: int, batch: int, world: World) -> CropBatch:
        """This worker's crops in a step, on the CPU.

        Raises:
            CorpusError: when a shard cannot be read.
            AudioError: when an utterance cannot be decoded.
        """
        indices = batch_indices(len(self.utterances), self._seed, step, batch, world.rank, world.size)
        first = (step * world.size + world.rank) * batch
        rows = self.utterances.rows(indices)
        drawn = [self._crop(row, first + place) for place, row in enumerate(rows)]
        waves, numbers = zip(*drawn, strict=True)
        return CropBatch(torch.from_numpy(np.stack(waves))[:, None], torch.tensor(numbers))

    def _crop(self, row: dict, position: int) -> tuple[np.ndarray, int]:
        random = np.random.default_rng((self._seed, position))
        wave = read_mono(row["audio"], self._rate_hz, row["id"])
        start = random.integers(max(len(wave) - self._crop_samples, 0) + 1)
        crop = wave[start : start + self._crop_samples]
        return np.pad(crop, (0, self._crop_samples - len(crop))), self._draw_codebooks(random)

    def _draw_codebooks(self, random: np.random.Generator) -> int:
        """Quantizer dropout (SoundStream, section III-C): half the time all, else one up to all alike."""
        if random.random() < 0.5:
            return self._num_codebooks
        return int(random.integers(1, self._num_codebooks + 1))
