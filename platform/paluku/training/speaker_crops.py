"""Batches for speaker training: some speakers, several crops of each.

Speakers, utterances, crops and disturbances are pure functions of the seed and of the place in the whole
run, so a resumed run, and any number of workers, read what one uninterrupted worker would.
"""

import functools
import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from paluku.audio import from_pcm16, read_mono, resample, to_pcm16
from paluku.corpus.columns import columns
from paluku.corpus.shards import ShardSet
from paluku.shapes import MonoWave
from paluku.training.disturbances import disturbed
from paluku.training.sampler import batch_indices
from paluku.training.speaker_config import SpeakerTrainingConfig
from paluku.training.world import World

# Keep the draws of a step and of a place in it apart.
OF_STEP, OF_PLACE = 1, 2


class SpeakerBatch(NamedTuple):
    """What one worker trains on in one step; `speaker` counts every speed of a speaker as another one."""

    wave: MonoWave
    speaker: Int[Tensor, "B"]

    def to(self, device: torch.device) -> "SpeakerBatch":
        """The same on a device."""
        return SpeakerBatch(self.wave.to(device), self.speaker.to(device))


class Recordings:
    """Decoded utterances of a split at one rate; some are kept in memory, as 16-bit samples."""

    def __init__(self, utterances: ShardSet, rate_hz: int, cached: int) -> None:
        self._utterances, self._rate_hz = utterances, rate_hz
        self._pcm = functools.lru_cache(maxsize=cached)(self._decode)

    def wave(self, number: int) -> np.ndarray:
        """Float32 `[S]` of a row. Raises `CorpusError`, `AudioError`."""
        return from_pcm16(self._pcm(number))

    def _decode(self, number: int) -> np.ndarray:
        [row] = self._utterances.rows([number])
        return to_pcm16(read_mono(row["audio"], self._rate_hz, row["id"]))


class SpeakerCrops:
    """Random crops of the speakers of a split, one length a step; a shorter utterance comes again."""

    def __init__(self, utterances: ShardSet, config: SpeakerTrainingConfig) -> None:
        self.utterances, self._config = utterances, config
        self._rate_hz = config.model.mel.sample_rate_hz
        self._recordings = Recordings(utterances, self._rate_hz, config.cached_utterances)
        rows: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, (source, speaker) in enumerate(columns(utterances, "source", "speaker")):
            rows[source, speaker].append(number)
        self._rows = [rows[key] for key in sorted(rows)]

    @property
    def num_speakers(self) -> int:
        """Speakers of the corpus times the speeds they are played at."""
        return len(self._rows) * len(self._config.speeds)

    def batch(self, step: int, world: World) -> SpeakerBatch:
        """This worker's crops in a step, on the CPU; those of one speaker follow each other.

        Raises:
            CorpusError: when a shard cannot be read.
            AudioError: when an utterance cannot be decoded.
        """
        config = self._config
        drawn = batch_indices(self.num_speakers, config.seed, step, config.batch, world.rank, world.size)
        seconds = np.random.default_rng((config.seed, step, OF_STEP)).uniform(*config.crop_s)
        # Whole steps of 20 ms: a Fourier transform of a prime number of samples is slow.
        samples = round(seconds * 50) * self._rate_hz // 50
        first = (step * world.size + world.rank) * config.batch
        waves = [
            crop
            for place, speaker in enumerate(drawn, start=first)
            for crop in self._crops(speaker, samples, place)
        ]
        each = torch.tensor(drawn).repeat_interleave(config.utterances_per_speaker)
        return SpeakerBatch(torch.from_numpy(np.stack(waves))[:, None], each)

    def _crops(self, speaker: int, samples: int, place: int) -> list[np.ndarray]:
        config = self._config
        number, speed = divmod(speaker, len(config.speeds))
        rows, count = self._rows[number], config.utterances_per_speaker
        random = np.random.default_rng((config.seed, place, OF_PLACE))
        chosen = random.choice(rows, size=count, replace=len(rows) < count)
        return [self._crop(int(row), samples, config.speeds[speed], random) for row in chosen]

    def _crop(self, row: int, samples: int, speed: float, random: np.random.Generator) -> np.ndarray:
        wave = self._recordings.wave(row)
        needed = math.ceil(samples * speed)
        start = int(random.integers(max(len(wave) - needed, 0) + 1))
        crop = np.resize(wave[start : start + needed], needed)
        played = np.resize(resample(crop, round(self._rate_hz * speed), self._rate_hz), samples)
        return disturbed(played, self._rate_hz, self._config.disturbances, random)
