"""What an ingress tells its stages about itself, for their autoscaling."""

from paluku.serving.ports import Pressure
from paluku.streaming.metrics import TickMetrics


class PressureGauge:
    """What one fleet is told: what was counted since the last time it asked."""

    def __init__(self, metrics: TickMetrics) -> None:
        self._counts = metrics.counts
        self._before = Pressure()

    def __call__(self) -> Pressure:
        """The counts since the last call."""
        refused = self._counts["refused_seats"] + self._counts["refused_late"]
        late = self._counts["ticks_busy"] + self._counts["ticks_missed"]
        before, self._before = self._before, Pressure(refused=refused, late_ticks=late)
        return Pressure(refused=refused - before.refused, late_ticks=late - before.late_ticks)
