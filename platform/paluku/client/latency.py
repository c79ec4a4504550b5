"""Reaction latency as the user hears it (docs/architecture.md, "What is measured").

The user's frame `n` is carried by the reply frame `n + acoustic delay`. An instant of sound waits for
its frame to fill, for the tick, for the stages and for the acoustic delay: with 40 ms frames and a
delay of one the arithmetic alone gives a mean of 78 to 95 ms.
"""

from collections.abc import Mapping

import numpy as np

from paluku.config import Config
from paluku.units import MS_PER_S

# Evenly spaced instants within each frame; more would not change mean or deviation by 1 %.
INSTANTS_PER_FRAME = 8


class Latency(Config):
    """Milliseconds over every measured instant; NaN-free: there is none without instants."""

    mean_ms: float
    std_ms: float
    p99_ms: float
    count: int


def reaction_ms(
    full_s: Mapping[int, float], arrived_s: Mapping[int, float], frame_s: float, delay_frames: int
) -> np.ndarray:
    """From the instants of each user frame to the reply frame that could first reflect them.

    `full_s[n]` is when frame `n` was due to be full at the microphone, `arrived_s[n]` when reply `n`
    came, both on one clock. Empty when no reply carries a user frame yet.

    A session keeps the phase between its frames and the server's ticks for as long as it lasts: the
    mean of one is anywhere within a frame's length. Pool sessions of several phases.
    """
    before_full_s = frame_s * (1 - (np.arange(INSTANTS_PER_FRAME) + 0.5) / INSTANTS_PER_FRAME)
    waits_s = [
        arrived_s[frame + delay_frames] - (full - before_full_s)
        for frame, full in full_s.items()
        if frame + delay_frames in arrived_s
    ]
    return np.concatenate(waits_s) * MS_PER_S if waits_s else np.zeros(0)


def summary(values_ms: np.ndarray) -> Latency | None:
    """Mean, deviation and p99 of milliseconds; None when there are none."""
    if not len(values_ms):
        return None
    return Latency(
        mean_ms=round(float(values_ms.mean()), 2),
        std_ms=round(float(values_ms.std()), 2),
        p99_ms=round(float(np.percentile(values_ms, 99)), 2),
        count=len(values_ms),
    )
