"""Waves moved onto each other: by how much what a codec gives lags behind what it was given."""

from collections.abc import Iterable

import numpy as np

# No speech codec is later than this; a correlation may be high at any distance, so it is not looked for
# beyond.
MOST_LAG_S = 0.15


def lag_samples(pairs: Iterable[tuple[np.ndarray, np.ndarray]], most_samples: int) -> int:
    """How many samples all decoded waves lag behind their references: one number, since a codec has one.

    The cross-correlations of all pairs `(reference [S], decoded [S'])` are added up, each clip with the
    same weight, and the highest sum within `-most_samples..most_samples` wins: one clip of a codec that
    keeps little of the phase may point anywhere, many do not. Of equals the lowest lag is given.
    """
    total = np.zeros(2 * most_samples + 1)
    for reference, decoded in pairs:
        total += _correlation(reference, decoded, most_samples)
    return int(np.argmax(total)) - most_samples


def moved(decoded: np.ndarray, lag: int, length: int) -> np.ndarray:
    """The `length` samples of `[S]` from `lag` on; what lies outside of it is silence."""
    start = max(0, lag)
    before = max(0, -lag)
    inside = decoded[start : max(start, lag + length)]
    return np.pad(inside, (before, max(0, length - before - len(inside))))[:length]


def _correlation(reference: np.ndarray, decoded: np.ndarray, most: int) -> np.ndarray:
    """Normalised cross-correlation `[2 most + 1]`; its middle is a lag of 0."""
    size = 1 << (max(len(reference), len(decoded)) + most).bit_length()  # so that nothing wraps round
    spectrum = np.fft.rfft(decoded, size) * np.fft.rfft(reference, size).conj()
    around = np.fft.irfft(spectrum, size)
    window = np.concatenate((around[size - most :], around[: most + 1]))
    scale = float(np.linalg.norm(reference.astype(float)) * np.linalg.norm(decoded.astype(float)))
    return window / scale if scale else np.zeros(2 * most + 1)
