"""What is not worth training on, and why: every rejected item keeps its reason."""

import numpy as np
from pydantic import Field

from paluku.config import Config
from paluku.errors import AudioError


class UnusableError(AudioError):
    """An item to be left out and counted; `reason` is one of a few words, `detail` is for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type["UnusableError"], tuple[str, str]]:
        """As pickle makes it again."""
        return type(self), (self.reason, self.detail)


class Limits(Config):
    """What a usable wave is like."""

    min_s: float = Field(default=0.4, gt=0)
    max_s: float = Field(default=30.0, gt=0)
    min_level_dbfs: float = -60.0


def check(wave: np.ndarray, rate_hz: int, limits: Limits) -> None:
    """Look at a mono wave `[S]`.

    Raises:
        UnusableError: "short", "long" or "silent".
    """
    duration_s = len(wave) / rate_hz
    if duration_s < limits.min_s:
        raise UnusableError("short", f"{duration_s:.2f} s, less than {limits.min_s} s")
    if duration_s > limits.max_s:
        raise UnusableError("long", f"{duration_s:.1f} s, more than {limits.max_s} s")
    power = float(np.square(wave, dtype=np.float64).mean())
    level_dbfs = 10 * np.log10(max(power, 1e-12))
    if level_dbfs < limits.min_level_dbfs:
        raise UnusableError("silent", f"{level_dbfs:.0f} dBFS, less than {limits.min_level_dbfs:.0f} dBFS")
