"""Pictures of sound for the tracking run. matplotlib comes with the `train` extra."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paluku.errors import StorageError

# The range an ear follows in a quiet room, below each picture's loudest point.
RANGE_DB = 80


def spectrograms(path: Path, waves: Mapping[str, np.ndarray], rate_hz: int) -> None:
    """A PNG with one spectrogram a wave (`[S]`, float), below each other, titled by their names."""
    # Late: half a second of import that only rank 0 needs. The object interface leaves global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3 * len(waves)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, wave) in enumerate(waves.items()):
        axes = figure.add_subplot(len(waves), 1, place + 1)
        image = axes.imshow(
            _level_db(wave),
            origin="lower",
            aspect="auto",
            extent=(0, len(wave) / rate_hz, 0, rate_hz / 2),
            vmin=-RANGE_DB,
            vmax=0,
        )
        axes.set(title=name, xlabel="seconds", ylabel="Hz")
        figure.colorbar(image, ax=axes, label="dB")
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written ({error}); free space or choose another folder"
        ) from error


def _level_db(wave: np.ndarray, window: int = 512, hop: int = 128) -> np.ndarray:
    """Short-time power `[window / 2 + 1, frames]` in dB below the loudest point."""
    padded = np.pad(wave, (0, max(window - len(wave), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, axis=1).T) ** 2
    return 10 * np.log10(power / max(float(power.max()), 1e-12) + 1e-12)
