"""Square-root companding of spectra, band by band: what a codec codes is near to what an ear hears.

Loudness grows with a small power of intensity (Zwicker and Fastl, "Psychoacoustics", section 8.1), about
the square root of amplitude. Each band of each frame is divided by the square root of its amplitude, so an
error of one size is an equal share of loudness in all bands: errors hide below what is loud, and the faint
upper bands are worth coding. Nothing is sent beside: a companded band's amplitude is the root of what it was.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# Mean square of a coefficient (-80 dB full scale) added to a band's: silence stays silence.
POWER_FLOOR = 1e-8
# The loudest a companded band can be (a full-scale sine has about 6). Above it expansion is linear: a
# decoder that overshoots in training would otherwise be squared, and run away.
POWER_CEILING = 10.0
# No band narrower: the root of one coefficient's own size would code its logarithm.
MIN_BAND_BINS = 2


def band_of_bin(bins: int, rate_hz: int, bands: int) -> Int[Tensor, "N"]:
    """Which of about `bands` bands each of `bins` spectral bins up to half of `rate_hz` is in.

    Of equal width in Bark (Traunmüller 1990, "Analytical expressions for the tonotopic sensory scale").
    """
    centre_hz = (torch.arange(bins, dtype=torch.float64) + 0.5) * rate_hz / (2 * bins)
    bark = 26.81 * centre_hz / (1960 + centre_hz) - 0.53
    width = (bark[-1] - bark[0]) / bands
    found, band, first = [], 0, 0
    for index in range(bins):
        is_full = bark[index] - bark[first] >= width and index - first >= MIN_BAND_BINS
        if is_full and bins - index >= MIN_BAND_BINS:
            band, first = band + 1, index
        found.append(band)
    return torch.tensor(found)


class Bands(nn.Module):
    """Sums over bands and back, as fixed matrices; nothing here is trained or saved."""

    mean: Float[Tensor, "M N"]
    spread: Float[Tensor, "N M"]

    def __init__(self, bins: int, rate_hz: int, bands: int) -> None:
        super().__init__()
        index = band_of_bin(bins, rate_hz, bands)
        spread = nn.functional.one_hot(index).float()
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("mean", (spread / spread.sum(dim=0)).T.contiguous(), persistent=False)

    def power(self, frames: Float[Tensor, "B N hops T"]) -> Float[Tensor, "B M T"]:
        """Mean square of a band's coefficients over a frame's hops, and the floor."""
        return self.mean @ frames.square().mean(dim=2) + POWER_FLOOR

    def scaled(
        self, frames: Float[Tensor, "B N hops T"], factor: Float[Tensor, "B M T"]
    ) -> Float[Tensor, "B N hops T"]:
        """Every coefficient times its band's factor."""
        return frames * (self.spread @ factor)[:, :, None]

    def compressed(self, frames: Float[Tensor, "B N hops T"]) -> Float[Tensor, "B N hops T"]:
        """Each band divided by the square root of its amplitude."""
        return self.scaled(frames, self.power(frames) ** -0.25)

    def expanded(self, frames: Float[Tensor, "B N hops T"]) -> Float[Tensor, "B N hops T"]:
        """The inverse of `compressed`, but for the floor and the ceiling."""
        return self.scaled(frames, self.power(frames).clamp(max=POWER_CEILING) ** 0.5)
