"""Batches for codec training: random crops of utterances, each with a random number of codebooks.

Row, crop and number of codebooks are pure functions of the seed and of the row's position in the whole
run, so a resumed run, and any number of workers, read what one uninterrupted worker would.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paluku.audio import read_mono
from paluku.corpus.shards import ShardSet
from paluku.corpus.teacher.features import TeacherFeatures
from paluku.shapes import MonoWave
from paluku.training.sampler import batch_indices
from paluku.training.world import World


class CropBatch(NamedTuple):
    """What one worker trains on in one step."""

    wave: MonoWave
    num_codebooks: Int[Tensor, "B"]
    teacher: Float[Tensor, "B T F"] | None = None

    def to(self, device: torch.device) -> "CropBatch":
        """The same on a device."""
        teacher = None if self.teacher is None else self.teacher.to(device)
        return CropBatch(self.wave.to(device), self.num_codebooks.to(device), teacher)


@runtime_checkable
class CodecShape(Protocol):
    """What crops must know of the codec that they are for."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waves."""
        ...

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        ...

    @property
    def num_codebooks(self) -> int:
        """`K`."""
        ...


class _Crop(NamedTuple):
    """One row of a batch."""

    wave: np.ndarray
    num_codebooks: int
    teacher: np.ndarray | None


class Crops:
    """Crops of `crop_samples` from the utterances of a split; a shorter one is followed by silence."""

    def __init__(
        self,
        utterances: ShardSet,
        model: CodecShape,
        crop_samples: int,
        seed: int,
        teacher: TeacherFeatures | None = None,
        levels_db: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.utterances = utterances
        self._model, self._crop_samples, self._seed, self._teacher = model, crop_samples, seed, teacher
        self._levels_db = levels_db

    @property
    def teacher_dim(self) -> int | None:
        """Dimension of what the teacher heard, where there is one."""
        return None if self._teacher is None else self._teacher.dims

    def batch(self, step: int, batch: int, world: World) -> CropBatch:
        """This worker's crops in a step, on the CPU.

        Raises:
            CorpusError: when a shard cannot be read, or the teacher never heard an utterance.
            AudioError: when an utterance cannot be decoded.
        """
        indices = batch_indices(len(self.utterances), self._seed, step, batch, world.rank, world.size)
        first = (step * world.size + world.rank) * batch
        rows = self.utterances.rows(indices)
        drawn = [self._crop(row, first + place) for place, row in enumerate(rows)]
        waves = torch.from_numpy(np.stack([crop.wave for crop in drawn]))[:, None]
        heard = [crop.teacher for crop in drawn if crop.teacher is not None]
        return CropBatch(
            waves,
            torch.tensor([crop.num_codebooks for crop in drawn]),
            torch.from_numpy(np.stack(heard)) if heard else None,
        )

    def _crop(self, row: dict, position: int) -> _Crop:
        random, rate_hz = np.random.default_rng((self._seed, position)), self._model.sample_rate_hz
        wave = read_mono(row["audio"], rate_hz, row["id"])
        start = int(random.integers(max(len(wave) - self._crop_samples, 0) + 1))
        crop = wave[start : start + self._crop_samples]
        wave = np.pad(crop, (0, self._crop_samples - len(crop)))
        frames = self._crop_samples // self._model.frame_samples
        teacher = self._teacher
        heard = None if teacher is None else teacher.crop(row["id"], start, frames, rate_hz)
        num_codebooks = self._draw_codebooks(random)
        return _Crop(at_some_level(wave, self._levels_db, random), num_codebooks, heard)

    def _draw_codebooks(self, random: np.random.Generator) -> int:
        """Quantizer dropout (SoundStream, section III-C): half the time all, else one up to all alike."""
        if random.random() < 0.5:
            return self._model.num_codebooks
        return int(random.integers(1, self._model.num_codebooks + 1))


def at_some_level(
    wave: np.ndarray, levels_db: tuple[float, float], random: np.random.Generator
) -> np.ndarray:
    """`[S]` louder or softer, but never clipped: corpora are levelled, microphones are not."""
    gain = 10 ** (random.uniform(*levels_db) / 20)
    peak = float(np.abs(wave).max(initial=1e-9))
    return wave * np.float32(min(gain, max(1.0 / peak, 1.0)))
