"""What else a microphone hears: noise of a few kinds, all of it made or read, none of it at a level yet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paluku import audio
from paluku.errors import CorpusError

MAINS_HZ = 50.0  # of India's grid
HUM_HARMONICS = 9
SOUND_FILES = (".wav", ".flac", ".ogg", ".mp3")


def pink(samples: int, random: np.random.Generator) -> np.ndarray:
    """Float32 `[S]` whose power falls with 1/f, as that of many a room does."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return at_unit_power(np.fft.irfft(spectrum, samples))


def hum(samples: int, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """Float32 `[S]`: the mains and its harmonics."""
    time_s = np.arange(samples) / rate_hz
    wave = np.zeros(samples)
    for harmonic in range(1, HUM_HARMONICS + 1):
        wave += np.sin(2 * np.pi * (harmonic * MAINS_HZ * time_s + random.random())) / harmonic
    return at_unit_power(wave)


def babble(samples: int, voices: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Float32 `[S]`: people talking at once, each repeated from a random place on."""
    wave = np.zeros(samples)
    for voice in voices:
        wave += np.resize(np.roll(at_unit_power(voice), int(random.integers(len(voice)))), samples)
    return at_unit_power(wave)


def recorded(samples: int, file: Path, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """Float32 `[S]`: a stretch of a recording, repeated if it is shorter.

    Raises:
        AudioError: when the file cannot be decoded.
    """
    wave = audio.read_mono(file, rate_hz)
    spare = max(len(wave) - samples, 0)
    start = int(random.integers(spare + 1))
    return at_unit_power(np.resize(wave[start:], samples))


def noise_files(folder: Path) -> list[Path]:
    """The recordings below a folder, in an order that does not change.

    Raises:
        CorpusError: when it holds none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUND_FILES)
    if not files:
        raise CorpusError(f"{folder} holds no recordings of noise; put WAV, FLAC, OGG or MP3 files there")
    return files


def at_unit_power(wave: np.ndarray) -> np.ndarray:
    """Float32 with a root mean square of 1; silence stays."""
    rms = float(np.sqrt(np.square(wave, dtype=np.float64).mean())) if len(wave) else 0.0
    return (wave / rms if rms else wave).astype(np.float32)
