"""Audio files and waves as numpy arrays: read, write, mix to mono, resample. No torch here.

Waves are float32 in [-1, 1], `[S]` for one channel. soundfile reads WAV, FLAC, OGG and MP3; soxr
resamples at its "high" quality (a 20-bit linear-phase filter, passband to 0.91 of Nyquist).
"""

import io
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from paluku.errors import AudioError
from paluku.units import PCM16_SCALE

# Below: telephone bandwidth would be lost. Above: no microphone gives it, so the header is broken.
MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
# Full scale is 1; a float file may pass it a little, one in other units passes it by far.
MAX_SAMPLE = 1000.0


def read(source: Path | bytes, name: str = "") -> tuple[np.ndarray, int]:
    """Read a whole file (or its bytes) as float32 `[S, C]` and its rate in Hz.

    Raises:
        AudioError: when it is missing, broken, empty, of an unusable rate, or holds NaN.
    """
    name = name or (str(source) if isinstance(source, Path) else "audio bytes")
    if isinstance(source, Path) and not source.is_file():
        raise AudioError(f"{name} does not exist; give the path of a WAV, FLAC, OGG or MP3 file")
    try:
        wave, rate_hz = soundfile.read(
            io.BytesIO(source) if isinstance(source, bytes) else source, dtype="float32", always_2d=True
        )
    except (soundfile.LibsndfileError, RuntimeError, EOFError) as error:
        raise AudioError(f"{name} cannot be decoded ({error}); convert it to WAV or FLAC") from error
    if not len(wave):
        raise AudioError(f"{name} holds no samples; remove it or record it again")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioError(
            f"{name} has a rate of {rate_hz} Hz; rates from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz can be used"
        )
    if not (np.abs(wave) < MAX_SAMPLE).all():  # false for NaN too
        raise AudioError(f"{name} holds NaN, infinite or absurdly large samples; export it again")
    return wave, int(rate_hz)


def read_mono(source: Path | bytes, rate_hz: int, name: str = "") -> np.ndarray:
    """Read, average the channels, and resample: float32 `[S]` at `rate_hz`.

    Raises:
        AudioError: as `read`.
    """
    wave, from_hz = read(source, name)
    return resample(wave.mean(axis=1), from_hz, rate_hz)


def resample(wave: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Band-limited rate conversion of `[S]` or `[S, C]`."""
    if from_hz == to_hz:
        return wave
    return soxr.resample(wave, from_hz, to_hz, quality="HQ").astype(np.float32)


def to_pcm16(wave: np.ndarray) -> np.ndarray:
    """Float waves to int16, clipped at full scale."""
    return np.rint(np.clip(wave, -1.0, 1.0) * PCM16_SCALE).astype(np.int16)


def from_pcm16(pcm: np.ndarray) -> np.ndarray:
    """int16 to float32 in [-1, 1]."""
    return pcm.astype(np.float32) / np.float32(PCM16_SCALE)


def to_flac(wave: np.ndarray, rate_hz: int) -> bytes:
    """16-bit FLAC of `[S]` or `[S, C]`."""
    buffer = io.BytesIO()
    soundfile.write(buffer, to_pcm16(wave), rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def check_writable(path: Path) -> None:
    """Find out before the work, not after it, that a file could not be written.

    Raises:
        AudioError: when its folder cannot be made or written to, or it is itself a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"{path} cannot be written ({error}); choose another path") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise AudioError(f"{path} cannot be written; choose a file in a folder that is yours")


def write_wav(path: Path, wave: np.ndarray, rate_hz: int) -> None:
    """16-bit WAV of `[S]` or `[S, C]`; the file appears whole or not at all.

    Raises:
        AudioError: when the file cannot be written.
    """
    partial = path.with_suffix(path.suffix + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(partial, to_pcm16(wave), rate_hz, format="WAV", subtype="PCM_16")
        partial.replace(path)
    except (OSError, soundfile.LibsndfileError) as error:
        partial.unlink(missing_ok=True)
        raise AudioError(f"{path} cannot be written ({error}); free space or choose another path") from error
