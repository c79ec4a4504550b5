"""What a codec is trained on, beside its quantizer's commitment: the wave itself, and mel spectrograms."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paluku.shapes import MonoWave
from paluku.torchaudio_cpu import prepare_torchaudio

prepare_torchaudio()
from torchaudio.transforms import MelSpectrogram  # noqa: E402 (only after the line above)

# Below -50 dB full scale a mel band is silence: its logarithm would reward matching noise nobody hears.
MEL_FLOOR = 1e-3
# A window of n samples is given no more mel bands than it can tell apart.
MEL_BANDS = {512: 40, 1024: 80, 2048: 160}


def noise_to_signal(estimate: MonoWave, target: MonoWave, floor: float = 1e-4) -> Float[Tensor, ""]:
    """Error energy over signal energy, averaged over the batch: 0 is perfect, 1 is as bad as silence.

    The time loss of SoundStream-like codecs, relative to each example so that quiet speech counts
    as much as loud speech. `floor` (mean square) keeps silent crops from dominating.
    """
    error = (estimate - target).square().mean(dim=(1, 2))
    return (error / (target.square().mean(dim=(1, 2)) + floor)).mean()


def si_sdr_db(estimate: MonoWave, target: MonoWave) -> Float[Tensor, "B"]:
    """Scale-invariant signal to distortion ratio (Le Roux et al. 2019, "SDR - half-baked or well done?")."""
    estimate, target = estimate.flatten(1), target.flatten(1)
    energy = target.square().sum(dim=1, keepdim=True)
    part = (estimate * target).sum(dim=1, keepdim=True) / (energy + 1e-9) * target
    noise = (estimate - part).square().sum(dim=1)
    return 10 * torch.log10((part.square().sum(dim=1) + 1e-9) / (noise + 1e-9))


class MultiScaleMelLoss(nn.Module):
    """Mean absolute difference of log mel spectrograms over several windows, hop a quarter of each.

    As in DAC (Kumar et al. 2023, section 3.5) and, with other scales, SoundStream (equation 5).
    """

    def __init__(self, sample_rate_hz: int, windows: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            MelSpectrogram(
                sample_rate_hz,
                n_fft=n,
                hop_length=n // 4,
                n_mels=MEL_BANDS[n],
                power=1.0,
                normalized=True,
            )
            for n in windows
        )

    def forward(self, estimate: MonoWave, target: MonoWave) -> Float[Tensor, ""]:
        """Nepers, averaged over bands, windows and scales."""
        return torch.stack([_log_distance(scale, estimate, target) for scale in self.scales]).mean()


def _log_distance(scale: nn.Module, estimate: Tensor, target: Tensor) -> Tensor:
    return (_log(scale(estimate)) - _log(scale(target))).abs().mean()


def _log(mel: Tensor) -> Tensor:
    return (mel + MEL_FLOOR).log()
