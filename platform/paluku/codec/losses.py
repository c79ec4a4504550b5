"""What a codec is trained on, beside its quantizer's commitment: the wave itself, and mel spectrograms."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, one_hot

from paluku.codec import mdct
from paluku.codec.companding import Bands, band_of_bin
from paluku.shapes import Latent, MonoWave
from paluku.torchaudio_cpu import prepare_torchaudio

prepare_torchaudio()
from torchaudio.transforms import MelSpectrogram  # noqa: E402 (only after the line above)

# Below -50 dB full scale a mel band is silence: its logarithm would reward matching noise nobody hears.
MEL_FLOOR = 1e-3
# Mean square of coefficients (-60 dB full scale) below which a band is silence: errors there are no louder.
BAND_FLOOR = 1e-6
# Speech is heard at 79 dB; a crop below -40 dB full scale counts as if it were that loud: it is a pause.
SPEECH_INTENSITY = 10**7.9
LEVEL_FLOOR = 1e-4
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


class BandNoiseLoss(nn.Module):
    """Error of MDCT coefficients, every band's divided by its amplitude in the original.

    Where `noise_to_signal` counts energy, and so the lowest harmonics alone, here an error counts by how
    loud it is beside what it goes with (`codec.companding`). 0 is perfect, 0.7 as bad as silence.
    """

    def __init__(self, sample_rate_hz: int, hop: int, hops_per_frame: int, bands: int) -> None:
        super().__init__()
        self.analysis = mdct.analysis(hop)
        self.bands = Bands(hop, sample_rate_hz, bands)
        self._hops = hops_per_frame

    def forward(self, estimate: MonoWave, target: MonoWave, floor: float = 1e-2) -> Float[Tensor, ""]:
        """Averaged over examples; `floor` (amplitude) keeps silent crops from dominating.

        Samples after the last whole frame do not count.
        """
        estimate, target = self._frames(estimate), self._frames(target)
        weight = (self.bands.power(target) + BAND_FLOOR) ** -0.25
        error = self.bands.scaled(estimate - target, weight).square().mean(dim=(1, 2, 3))
        loudness = self.bands.scaled(target, weight).square().mean(dim=(1, 2, 3))
        # The logarithm lets no single crop, such as noise made out of silence, push harder than others.
        return (error / (loudness + floor)).log1p().mean()

    def _frames(self, wave: MonoWave) -> Float[Tensor, "B N hops T"]:
        samples = (
            wave.shape[-1] // (self.analysis.stride[0] * self._hops) * self.analysis.stride[0] * self._hops
        )
        return self.analysis(wave[..., :samples]).unflatten(2, (-1, self._hops)).transpose(2, 3)


class LoudnessLoss(nn.Module):
    """How differently two waves sound loud, critical band by critical band.

    Specific loudness after Zwicker, of intensity above the threshold in quiet (Zwicker and Fastl,
    "Psychoacoustics", section 8.7; threshold after Terhardt 1979), in 49 bands of equal width in Bark and
    frames of about 32 ms. As in ITU-T P.862 (sections 10.2.8 to 10.2.10) a difference below a quarter of the
    loudness is masked, and what was added disturbs more than what is missing. Between models it ranks
    as P.862 does without being it: no time alignment, no equalisation, no aggregation over speech bursts.
    """

    threshold: Float[Tensor, "M"]
    bands: Float[Tensor, "F M"]
    window: Float[Tensor, "N"]

    def __init__(self, sample_rate_hz: int, bands: int = 49) -> None:
        super().__init__()
        size = 2 ** round(math.log2(0.032 * sample_rate_hz))
        frequency_hz = (torch.arange(size // 2) + 0.5) * sample_rate_hz / size
        index = band_of_bin(size // 2, sample_rate_hz, bands)
        member = one_hot(index).float()
        centre_khz = (frequency_hz @ member / member.sum(dim=0)) / 1000
        quiet_db = (
            3.64 * centre_khz**-0.8 - 6.5 * (-0.6 * (centre_khz - 3.3) ** 2).exp() + 1e-3 * centre_khz**4
        )
        self.register_buffer("threshold", 10 ** (quiet_db / 10), persistent=False)
        self.register_buffer("bands", member, persistent=False)
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, estimate: MonoWave, target: MonoWave) -> Float[Tensor, ""]:
        """In sones or so per band, averaged over frames and examples."""
        level = target.square().mean(dim=(1, 2), keepdim=True).clamp(min=LEVEL_FLOOR)
        gain = (SPEECH_INTENSITY / level).sqrt()
        heard, wanted = self._intensity(estimate * gain), self._intensity(target * gain)
        loud, wanted_loud = self._loudness(heard), self._loudness(wanted)
        masked = 0.25 * torch.minimum(loud, wanted_loud).detach()
        disturbance = ((loud - wanted_loud).abs() - masked).clamp(min=0)
        added = ((heard + 50) / (wanted + 50)).detach() ** 1.2
        added = torch.where(added < 3, torch.zeros_like(added), added.clamp(max=12))
        per_frame = (disturbance.square().mean(dim=2) + 1e-3).sqrt() + 0.3 * (disturbance * added).mean(dim=2)
        return per_frame.mean()

    def _intensity(self, wave: MonoWave) -> Float[Tensor, "B T M"]:
        size = len(self.window)
        spectrum = torch.stft(
            wave[:, 0], size, size // 2, window=self.window, center=False, return_complex=True
        )
        power = spectrum[:, 1:].abs().square() / (size * self.window.square().sum() / 2)
        return power.transpose(1, 2) @ self.bands

    def _loudness(self, intensity: Float[Tensor, "B T M"]) -> Float[Tensor, "B T M"]:
        quiet = self.threshold
        loud = (quiet / 0.5) ** 0.23 * ((0.5 + 0.5 * intensity / quiet) ** 0.23 - 1)
        return loud.clamp(min=0)  # below the threshold nothing is heard


class TeacherLoss(nn.Module):
    """How badly a linear map of what the first codebook says tells what a frozen speech encoder heard.

    One minus the cosine, over frames (SpeechTokenizer, Zhang et al. 2024, section 3.2; Mimi, Défossez et al.
    2024, section 3.3.2): the first code then carries what is said, and the others how it sounds.
    """

    def __init__(self, latent_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.map = nn.Conv1d(latent_dim, teacher_dim, 1)

    def forward(self, first: Latent, teacher: Float[Tensor, "B T F"]) -> Float[Tensor, ""]:
        """Between 0 and 2; frames where the teacher heard nothing (rows of zeros) do not count."""
        distance = 1 - cosine_similarity(self.map(first), teacher.transpose(1, 2), dim=1)
        heard = (teacher != 0).any(dim=2)
        # By example first: the mean over examples is then the same however they are spread over workers.
        return ((distance * heard).sum(dim=1) / heard.sum(dim=1).clamp(min=1)).mean()


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
