"""Learned judges of sound: multi-band complex STFT and multi-period discriminators.

STFT discriminators see real and imaginary parts of one resolution each and cut the spectrum into bands
with weights of their own (DAC, Kumar et al. 2023, "High-Fidelity Audio Compression with Improved RVQGAN",
section 3.3; without bands EnCodec's MS-STFT, Défossez et al. 2022, section 3.4). Period discriminators
see every p-th sample side by side (HiFi-GAN, Kong et al. 2020, section 2.3).

One step of a GAN, with one judgement of each wave for both sides:

    fake = decoded.detach().requires_grad_()
    of_real, of_fake = discriminators(real), discriminators(fake)
    gradient = autograd.grad(generator_loss(of_fake, "hinge") + feature_matching(of_fake, of_real), fake,
                             retain_graph=True)
    discriminator_loss(of_real, of_fake, "hinge").backward(inputs=list(discriminators.parameters()))

Where the discriminators are not to learn in a step, judge inside `frozen(discriminators)`: it saves the
gradients of their weights. There are no buffers, so DDP may judge twice before one backward pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

from paluku.config import Config
from paluku.shapes import MonoWave

Map: TypeAlias = Float[Tensor, "B C H W"]  # H is time; W is frequency, or the phase within a period

SLOPE = 0.1  # of the leaky ReLU (DAC, HiFi-GAN)
PEAK = 0.8  # loudness says nothing about naturalness: each wave is brought to this peak (DAC)
# Below -40 dB full scale a wave stays quiet: noise of silence, or of a codec that has just begun, is no cue.
PEAK_FLOOR = 1e-2


def _bins(window: int, edges: Sequence[float]) -> list[tuple[int, int]]:
    return list(pairwise(int(edge * (window // 2 + 1)) for edge in edges))


class DiscriminatorConfig(Config):
    """Sizes. The default is for one CPU core and speech at 16 kHz: no periods, and neighbouring bins folded.

    `bands` are edges as shares of the spectrum. `strides` (over frequency) and `dilations` (over time) have
    one entry for each convolution of a band; kernels are 3 frames by `kernel_bins`, in the last one 3 by 3.
    """

    windows: tuple[int, ...] = (256, 512, 1024)  # samples; hop a quarter of each
    bands: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    fold_bins: int = Field(default=4, ge=1)  # neighbours made channels of one place before the convolutions
    kernel_bins: Literal[3, 5, 7, 9] = 5
    channels: int = Field(default=16, ge=1)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    periods: tuple[int, ...] = ()  # samples
    period_channels: tuple[int, ...] = (16, 32, 64, 64)  # strides 3, in the last one 1

    @model_validator(mode="after")
    def _fits(self) -> "DiscriminatorConfig":
        if not self.windows and not self.periods:
            raise ValueError("neither windows nor periods; give at least one of them")
        if len(self.strides) != len(self.dilations) or not self.strides:
            raise ValueError(
                f"strides {self.strides} and dilations {self.dilations} must be as many, not none"
            )
        edges = self.bands
        if edges[:1] != (0.0,) or edges[-1:] != (1.0,) or any(low >= high for low, high in pairwise(edges)):
            raise ValueError(f"bands {edges} must climb from 0.0 to 1.0")
        narrow = [n for n in self.windows if any(low == high for low, high in _bins(n, edges))]
        if narrow:
            raise ValueError(f"windows {narrow} are too short for bands {edges}; give wider bands")
        if self.periods and not self.period_channels:
            raise ValueError("periods without period_channels; give the channels of each convolution")
        return self


# DAC's (section 3.3 and its 16 kHz and 44 kHz configurations): 42 million weights.
DAC_SIZES = DiscriminatorConfig(
    windows=(2048, 1024, 512),
    bands=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    fold_bins=1,
    kernel_bins=9,
    channels=32,
    strides=(1, 2, 2, 2, 1),
    dilations=(1, 1, 1, 1, 1),
    periods=(2, 3, 5, 7, 11),
    period_channels=(32, 128, 512, 1024, 1024),
)
# EnCodec's MS-STFT (section 3.4, figure 2).
ENCODEC_SIZES = DiscriminatorConfig(
    windows=(2048, 1024, 512, 256, 128),
    bands=(0.0, 1.0),
    fold_bins=1,
    kernel_bins=9,
    channels=32,
    strides=(1, 2, 2, 2, 1),
    dilations=(1, 1, 2, 4, 1),
)


class Verdict(NamedTuple):
    """What one discriminator says of a batch of waves: high logits for real, and how it came to them."""

    logits: Float[Tensor, "B 1 H W"]
    features: tuple[Tensor, ...]  # [B, C, H, W] after each convolution but the last, shapes differing


class Discriminators(nn.Module):
    """All discriminators of a configuration: `windows` first, then `periods`."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        judges = [StftDiscriminator(n, config) for n in config.windows]
        judges += [PeriodDiscriminator(p, config.period_channels) for p in config.periods]
        self.judges = nn.ModuleList(judges)

    def forward(self, wave: MonoWave) -> list[Verdict]:
        """One verdict from each, on waves longer than half the longest window. Works under autocast."""
        levelled = levelled_out(wave.float())
        return [judge(levelled) for judge in self.judges]


def levelled_out(wave: MonoWave) -> MonoWave:
    """Without its mean, at a peak of `PEAK`; what lies below `PEAK_FLOOR` stays quiet."""
    wave = wave - wave.mean(dim=-1, keepdim=True)
    return wave * (PEAK / wave.abs().amax(dim=-1, keepdim=True).clamp(min=PEAK_FLOOR))


class Stack(nn.ModuleList):
    """Convolutions in a row, a leaky ReLU after each."""

    def forward(self, map_: Map) -> list[Tensor]:
        """The map after each of them, `[B, C, H, W]`."""
        maps = []
        for conv in self:
            map_ = leaky_relu(conv(map_), SLOPE, inplace=True)
            maps.append(map_)
        return maps


class StftDiscriminator(nn.Module):
    """Convolutions over the complex spectrogram of one window, a stack for each band."""

    def __init__(self, window: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.window = window
        self.bins = _bins(window, config.bands)
        self.fold_bins = config.fold_bins
        self.stacks = nn.ModuleList(_stack(config) for _ in self.bins)
        self.last = _conv(config.channels, 1, (3, 3))
        # Complex spectra come with their parts innermost: channels last costs no copy, and is faster.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, wave: MonoWave) -> Verdict:
        """Logits over frames and (strided) bins of all bands side by side."""
        spectrum, maps, ends = self.spectrum(wave), [], []
        for (low, high), stack in zip(self.bins, self.stacks, strict=True):
            of_band = stack(folded(spectrum[..., low:high], self.fold_bins))
            maps += of_band
            ends.append(of_band[-1])
        return Verdict(self.last(torch.cat(ends, dim=-1)), tuple(maps))

    def spectrum(self, wave: MonoWave) -> Float[Tensor, "B 2 H W"]:
        """Real and imaginary part, frames by bins; white noise of variance 1 has bins of variance 1."""
        n = self.window
        assert wave.shape[-1] > n // 2, f"{wave.shape[-1]} samples are too few for a window of {n}"
        hann = torch.hann_window(n, device=wave.device)
        hann = hann / hann.square().sum().sqrt()
        complex_ = torch.stft(wave[:, 0], n, n // 4, window=hann, return_complex=True)
        return torch.view_as_real(complex_.transpose(1, 2)).permute(0, 3, 1, 2)


class PeriodDiscriminator(nn.Module):
    """Convolutions along time over samples a period apart, the phases side by side."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(channels) - 1) + [1]
        widths = [1, *channels]
        self.stack = Stack(
            _conv(have, give, (5, 1), (stride, 1))
            for (have, give), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.last = _conv(channels[-1], 1, (3, 1))

    def forward(self, wave: MonoWave) -> Verdict:
        """Logits over (strided) time and phases; the wave is mirrored at its end to whole periods."""
        wave = pad(wave, (0, -wave.shape[-1] % self.period), "reflect")
        maps = self.stack(wave.unflatten(-1, (-1, self.period)))
        return Verdict(self.last(maps[-1]), tuple(maps))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, what `module` computes has gradients with respect to its inputs, not to its weights.

    Only the forward pass must run inside. Under DDP give both this and the forward pass the bare module.
    """
    learning = [weight for weight in module.parameters() if weight.requires_grad]
    try:
        module.requires_grad_(False)
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)


def folded(spectrum: Map, bins: int) -> Float[Tensor, "B CF H WF"]:
    """`[B, C, H, W]` to `[B, bins * C, H, ceil(W / bins)]`: neighbouring bins as channels, channels last.

    As a stride of `bins`, but backwards twice as fast on a CPU: convolutions there dislike two channels.
    """
    wide = pad(spectrum, (0, -spectrum.shape[-1] % bins)).permute(0, 2, 3, 1)
    return wide.unflatten(2, (-1, bins)).flatten(3).permute(0, 3, 1, 2)


def _stack(config: DiscriminatorConfig) -> Stack:
    """A band's convolutions: from real and imaginary parts on."""
    widths = [2 * config.fold_bins] + [config.channels] * len(config.strides)
    kernels = [(3, config.kernel_bins)] * (len(config.strides) - 1) + [(3, 3)]
    return Stack(
        _conv(have, give, kernel, (1, stride), dilation)
        for (have, give), kernel, stride, dilation in zip(
            pairwise(widths), kernels, config.strides, config.dilations, strict=True
        )
    )


def _conv(
    have: int, give: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: int = 1
) -> nn.Module:
    """Weight-normalised, dilated over time, padded so that stride 1 keeps both sizes (kernels are odd)."""
    padding = (dilation * (kernel[0] // 2), kernel[1] // 2)
    return weight_norm(nn.Conv2d(have, give, kernel, stride, padding, (dilation, 1)))
