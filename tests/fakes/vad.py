"""A `Vad` that knows what it will say."""

from collections.abc import Mapping

import numpy as np


class FakeVad:
    """Implements `paluku.streaming.vad.Vad`: a frame is speech when its loudest sample passes a level."""

    def __init__(self, level: int = 1_000) -> None:
        self._level = level
        self.forgotten: list[str] = []

    def probabilities(self, frames: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {key: float(np.abs(pcm.astype(int)).max() > self._level) for key, pcm in frames.items()}

    def forget(self, key: str) -> None:
        self.forgotten.append(key)
