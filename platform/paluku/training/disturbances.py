"""What rooms, microphones and lines do to a voice, drawn at random: a speaker stays who he is."""

import numpy as np
from jaxtyping import Float
from pydantic import Field

from paluku.config import Config

LOWEST_HZ = 20.0  # where a noise's slope begins


class Disturbances(Config):
    """Shares of the crops, and ranges to draw from evenly."""

    noise_share: float = Field(default=0.5, ge=0, le=1)
    snr_db: tuple[float, float] = (5.0, 25.0)
    slope_db_per_octave: tuple[float, float] = (-6.0, 0.0)  # brown noise to white
    band_share: float = Field(default=0.3, ge=0, le=1)
    lowest_hz: tuple[float, float] = (0.0, 300.0)
    highest_hz: tuple[float, float] = (3_000.0, 7_500.0)
    gain_db: tuple[float, float] = (-12.0, 12.0)  # what passes full scale is clipped


def disturbed(
    wave: Float[np.ndarray, "S"], rate_hz: int, how: Disturbances, random: np.random.Generator
) -> Float[np.ndarray, "S"]:
    """A noise under it, its band narrowed, its level changed; the same for the same state of `random`."""
    # Drawn whether they are used or not, so that changing a share changes nothing else.
    noisy, narrow = random.random(2)
    snr_db, slope = random.uniform(*how.snr_db), random.uniform(*how.slope_db_per_octave)
    lowest_hz, highest_hz = random.uniform(*how.lowest_hz), random.uniform(*how.highest_hz)
    gain = 10 ** (random.uniform(*how.gain_db) / 20)
    spectrum = np.fft.rfft(wave)
    bins_hz = np.fft.rfftfreq(len(wave), 1 / rate_hz)
    if noisy < how.noise_share:
        spectrum = spectrum + _noise(spectrum, bins_hz, slope, snr_db, random)
    if narrow < how.band_share:
        spectrum = np.where((bins_hz >= lowest_hz) & (bins_hz <= highest_hz), spectrum, 0)
    heard = np.fft.irfft(spectrum, len(wave)) * gain
    return np.clip(heard, -1.0, 1.0).astype(np.float32)


def _noise(
    spectrum: np.ndarray, bins_hz: np.ndarray, slope: float, snr_db: float, random: np.random.Generator
) -> np.ndarray:
    """A spectrum of random phases that falls by `slope` an octave, `snr_db` below the other's energy."""
    octaves = np.log2(np.maximum(bins_hz, LOWEST_HZ) / LOWEST_HZ)
    shape = 10 ** (slope * octaves / 20)
    noise = shape * (random.standard_normal(len(bins_hz)) + 1j * random.standard_normal(len(bins_hz)))
    energy, own = (np.square(np.abs(part)).sum() for part in (spectrum, noise))
    return noise * np.sqrt(energy / max(own, 1e-12) / 10 ** (snr_db / 10))
