"""What the benchmarks of turn taking listen to: speech in noise, cut into frames and judged."""

from typing import NamedTuple

import numpy as np

from paluku.audio import to_pcm16
from paluku.streaming.vad import SileroVad
from paluku.units import frame_samples

RATE_HZ = 16_000
SAMPLES = frame_samples(RATE_HZ)
LEVEL = 0.06  # the speech's root mean square, of full scale
LEAD_FRAMES = 20


class Heard(NamedTuple):
    """An utterance with noise before, in and after it."""

    frames: np.ndarray  # int16 [T, S]
    clean: np.ndarray  # float32 [T, S], without the noise
    first: float  # where the speech begins, in frames


def heard(wave: np.ndarray, noise_db: float | None, rng: np.random.Generator) -> Heard:
    """Float `[S]` at one level in pink noise, at a random phase between its start and the frames."""
    loud = np.flatnonzero(np.abs(wave) > np.abs(wave).max() / 50)
    wave = wave[loud[0] : loud[-1] + 1]
    lead = LEAD_FRAMES * SAMPLES + int(rng.integers(SAMPLES))
    wave = np.pad(wave * LEVEL / wave[np.abs(wave) > np.abs(wave).max() / 10].std(), (lead, RATE_HZ))
    wave = wave[: len(wave) // SAMPLES * SAMPLES]
    noise = np.zeros(len(wave)) if noise_db is None else pink(len(wave), rng) * LEVEL * 10 ** (noise_db / 20)
    return Heard(to_pcm16(wave + noise).reshape(-1, SAMPLES), wave.reshape(-1, SAMPLES), lead / SAMPLES)


def pink(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of equal power in each octave, of deviation 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), samples)
    return noise / noise.std()


def probabilities(frames: np.ndarray) -> np.ndarray:
    """How likely each frame of one session is speech."""
    vad = SileroVad(RATE_HZ)
    return np.array([vad.probabilities({"": frame})[""] for frame in frames])
