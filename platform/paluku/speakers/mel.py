"""What a speaker encoder hears: log mel energies of a wave, whatever its level and its line."""

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from paluku.config import Config
from paluku.shapes import MonoWave

# Of the wave's mean square, after it was brought to 1: a digital silence stays a silence.
LEAST_POWER = 1e-10
# About 40 dB below the level of the whole: what is softer is mostly the room.
MEL_FLOOR = 1e-2


class MelConfig(Config):
    """25 ms windows every 10 ms at 16 kHz, as most speaker encoders have them."""

    sample_rate_hz: int = Field(default=16_000, ge=8_000)
    window_samples: int = Field(default=400, ge=2)
    hop_samples: int = Field(default=160, ge=1)
    fft_samples: int = Field(default=512, ge=2)
    bands: int = Field(default=64, ge=2)
    lowest_hz: float = Field(default=40.0, ge=0)


class LogMel(nn.Module):
    """Log mel energies whose mean over time is 0 in every band.

    The mean of a log spectrum is what microphone and line do to all of it (cepstral mean subtraction,
    Atal 1974); the wave is brought to one level before, so that the floor lies at the same depth.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.window_samples), persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)

    def forward(self, wave: MonoWave) -> Float[Tensor, "B F T"]:
        """Of at least `fft_samples` of sound; neper, `F` bands."""
        config = self.config
        assert wave.shape[-1] >= config.fft_samples, f"{wave.shape[-1]} samples are less than a window"
        power = wave.square().mean(dim=-1, keepdim=True)
        level = wave * (power + LEAST_POWER).rsqrt()
        spectrum = torch.stft(
            level[:, 0],
            config.fft_samples,
            config.hop_samples,
            config.window_samples,
            self.window,
            center=False,
            return_complex=True,
        )
        energies = self.filters @ spectrum.abs().square()
        found = (energies + MEL_FLOOR).log()
        return found - found.mean(dim=-1, keepdim=True)


def mel_filters(config: MelConfig) -> Float[Tensor, "F N"]:
    """Triangles on the mel scale (O'Shaughnessy 1987), each with a peak of 1, over the bins of a spectrum."""
    bins_hz = torch.linspace(0, config.sample_rate_hz / 2, config.fft_samples // 2 + 1)
    low, top = _mel(config.lowest_hz), _mel(config.sample_rate_hz / 2)
    edges_hz = 700 * (10 ** (torch.linspace(low, top, config.bands + 2) / 2595) - 1)
    below, middle, above = (edges_hz[first : first + config.bands, None] for first in range(3))
    rising, falling = (bins_hz - below) / (middle - below), (above - bins_hz) / (above - middle)
    return torch.minimum(rising, falling).clamp(min=0)


def _mel(frequency_hz: float) -> float:
    return 2595 * math.log10(1 + frequency_hz / 700)
