"""Any number of hours of speech for a benchmark: no two recordings alike, the same for the same seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from paluku import audio
from paluku.corpus.turns import read_intents
from paluku.corpus.voices.espeak import Espeak
from paluku.corpus.voices.port import Prosody
from paluku.errors import CorpusError

RATE_HZ = 24_000
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
# From a sentence to a conversation's share of an hour.
RECORDING_S = (6.0, 180.0)
PAUSE_S = (0.2, 1.2)
# Far enough from the original and from each other for a fingerprint, near enough for speech.
SPEED = (0.87, 1.15)
NOISE_DBFS = (-70.0, -50.0)
SPEAKERS = 20

# A sentence or a file by a random number generator: `[S]` and its rate.
Draw = Callable[[np.random.Generator], tuple[np.ndarray, int]]


def write_hours(folder: Path, hours: float, seed: int, data: Path | None = None) -> float:
    """Write 24 kHz FLAC files, a subfolder a speaker, of at least so many hours; the hours there are.

    The sentences are eSpeak NG's, of the shipped Telugu turns, or the audio files below `data`. Each is
    played at a speed of its own, and a recording has its own pauses and noise.

    Raises:
        CorpusError: when `data` holds no audio.
        AudioError: when one of its files cannot be decoded.
    """
    draw, random = (_spoken() if data is None else _recorded(data)), np.random.default_rng(seed)
    written_s, number = 0.0, 0
    while written_s < 3600 * hours:
        wave = _recording(draw, random)
        path = folder / f"speaker-{number % SPEAKERS:02d}" / f"{number:05d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio.to_pcm16(wave), RATE_HZ)
        written_s, number = written_s + len(wave) / RATE_HZ, number + 1
    return written_s / 3600


def _recording(draw: Draw, random: np.random.Generator) -> np.ndarray:
    samples = round(random.uniform(*RECORDING_S) * RATE_HZ)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < samples:
        wave, rate_hz = draw(random)
        parts.append(audio.resample(wave, rate_hz, round(RATE_HZ / random.uniform(*SPEED))))
        parts.append(np.zeros(round(random.uniform(*PAUSE_S) * RATE_HZ), np.float32))
    wave = np.concatenate(parts)[:samples]
    level = np.float32(10 ** (random.uniform(*NOISE_DBFS) / 20))
    return 0.7 * wave + level * random.standard_normal(samples, np.float32)


def _spoken() -> Draw:
    engine = Espeak()
    intents = read_intents()
    texts = sorted({text for i in intents for text in (*i.asks, *(reply.text for reply in i.replies))})

    def draw(random: np.random.Generator) -> tuple[np.ndarray, int]:
        said = engine.speak(str(random.choice(texts)), str(random.choice(engine.voices)), Prosody())
        return said.wave, said.rate_hz

    return draw


def _recorded(data: Path) -> Draw:
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise CorpusError(f"{data} holds no WAV, FLAC, OGG or MP3 files; give a folder of recordings")

    def draw(random: np.random.Generator) -> tuple[np.ndarray, int]:
        wave, rate_hz = audio.read(paths[int(random.integers(len(paths)))])
        return wave.mean(axis=1), rate_hz

    return draw
