"""Pictures of sound for the tracking run. matplotlib comes with the `train` extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paluku.errors import StorageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The range an ear follows in a quiet room, below each picture's loudest point.
RANGE_DB = 80


def spectrograms(path: Path, waves: Mapping[str, np.ndarray], rate_hz: int) -> None:
    """A PNG of waves (`[S]`, float), titled by their names: each its form, and below its spectrogram."""
    # Late: half a second of import that only rank 0 needs. The object interface leaves global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4 * len(waves)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, wave) in enumerate(waves.items()):
        above, axes = _rows(figure, len(waves), place)
        above.plot(np.arange(len(wave)) / rate_hz, wave, linewidth=0.4)
        above.set(title=name, xlim=(0, len(wave) / rate_hz), ylim=(-1, 1))
        image = axes.imshow(
            _level_db(wave),
            origin="lower",
            aspect="auto",
            extent=(0, len(wave) / rate_hz, 0, rate_hz / 2),
            vmin=-RANGE_DB,
            vmax=0,
        )
        axes.set(xlabel="seconds", ylabel="Hz")
        figure.colorbar(image, ax=axes, label="dB")
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written ({error}); free space or choose another folder"
        ) from error


def _rows(figure: "Figure", count: int, place: int) -> tuple["Axes", "Axes"]:
    """Of a wave, the low row for its form and the high one for its spectrogram."""
    grid = figure.add_gridspec(2 * count, 1, height_ratios=[1, 3] * count)
    return figure.add_subplot(grid[2 * place]), figure.add_subplot(grid[2 * place + 1])


def _level_db(wave: np.ndarray, window: int = 512, hop: int = 128) -> np.ndarray:
    """Short-time power `[window / 2 + 1, frames]` in dB below the loudest point."""
    padded = np.pad(wave, (0, max(window - len(wave), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, axis=1).T) ** 2
    return 10 * np.log10(power / max(float(power.max()), 1e-12) + 1e-12)
