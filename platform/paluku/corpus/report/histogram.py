"""Counts in bins of one width: the quantiles of any number of values in the memory of a few."""

from typing import NamedTuple

import numpy as np


class Scale(NamedTuple):
    """What is measured, and how finely; quantiles are right to one bin."""

    title: str
    unit: str
    low: float
    high: float
    bins: int

    @property
    def width(self) -> float:
        """Of a bin, in `unit`."""
        return (self.high - self.low) / self.bins


class Histogram:
    """Values on a scale. What lies outside it is counted in the outermost bins; NaN is not counted."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.counts = np.zeros(scale.bins, np.int64)
        self.least, self.most, self._sum = np.inf, -np.inf, 0.0

    def __len__(self) -> int:
        return int(self.counts.sum())

    def add(self, values: np.ndarray) -> None:
        """Count `[N]` more values."""
        known = np.asarray(values, np.float64)
        known = known[np.isfinite(known)]
        if not len(known):
            return
        places = np.floor((known - self.scale.low) / self.scale.width).astype(np.int64)
        self.counts += np.bincount(places.clip(0, self.scale.bins - 1), minlength=self.scale.bins)
        self.least, self.most = min(self.least, known.min()), max(self.most, known.max())
        self._sum += float(known.sum())

    @property
    def mean(self) -> float:
        """Exact.

        Raises:
            ValueError: when nothing was counted.
        """
        return self._sum / self._some()

    def quantile(self, share: float) -> float:
        """The value below which `share` of all values lie, within one bin; exact at 0 and 1.

        Raises:
            ValueError: when nothing was counted.
        """
        wanted = share * self._some()
        ends = np.cumsum(self.counts)
        place = min(int(np.searchsorted(ends, wanted)), self.scale.bins - 1)
        edges = self._edges(place)
        inside = (wanted - (ends[place] - self.counts[place])) / max(1, self.counts[place])
        value = edges[0] + inside * (edges[1] - edges[0])
        return float(np.clip(value, self.least, self.most))

    def bars(self, most: int) -> tuple[float, float, np.ndarray]:
        """For drawing: `(low, bar's width, counts)` of at most `most` bars around what was counted.

        Raises:
            ValueError: when nothing was counted.
        """
        self._some()
        first, last = np.flatnonzero(self.counts)[[0, -1]]
        per_bar = -(-int(last + 1 - first) // most)
        inside = self.counts[first : last + 1]
        padded = np.pad(inside, (0, -len(inside) % per_bar)).reshape(-1, per_bar)
        return self.scale.low + first * self.scale.width, per_bar * self.scale.width, padded.sum(axis=1)

    def _edges(self, place: int) -> tuple[float, float]:
        """Of a bin; the outermost reach as far as their values do."""
        low = self.scale.low + place * self.scale.width
        high = low + self.scale.width
        outer_low = min(low, self.least) if place == 0 else low
        return outer_low, max(high, self.most) if place == self.scale.bins - 1 else high

    def _some(self) -> int:
        if not len(self):
            raise ValueError(f"no values of {self.scale.title!r} were counted")
        return len(self)
