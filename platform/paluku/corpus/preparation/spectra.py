"""Power spectra of a wave, frame after frame, a few at a time."""

from collections.abc import Iterator

import numpy as np

# So many frames of 1,024 samples, their spectra and powers are half a megabyte and stay in a core's cache:
# two to three times as fast as all at once, and the cores of a machine do not wait for each other's memory.
FRAMES_AT_ONCE = 64


def power_spectra(wave: np.ndarray, window: np.ndarray, hop: int) -> Iterator[np.ndarray]:
    """Blocks `[<= FRAMES_AT_ONCE, size / 2 + 1]` of the power of frames every `hop` samples of `[S]`.

    `window` `[size]` weighs each frame; S is at least its size. What is left at the end is no frame.
    """
    frames = np.lib.stride_tricks.sliding_window_view(wave, len(window))[::hop]
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(frames[first : first + FRAMES_AT_ONCE] * window, axis=1)
        yield spectrum.real**2 + spectrum.imag**2
