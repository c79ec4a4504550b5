"""How many replicas a stage gets: by its seats, which is what its users take.

Ongoing requests, Serve's own measure, say nothing here: a replica is called once a tick, however many
sessions it holds.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from paluku.config import Config

# Half a replica's worth of users is not helped by a second replica: whoever refuses sessions or is late,
# it is another stage.
BUSY_SHARE = 0.5


class Autoscaling(Config):
    """Of one stage."""

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=4, ge=1)
    # Above the first share of the seats a replica is added, below the second one is removed. What lies
    # between keeps sessions from being moved to and fro by every caller who comes or goes.
    up_occupancy: float = Field(default=0.7, gt=0, le=1)
    down_occupancy: float = Field(default=0.5, gt=0, le=1)
    downscale_delay_s: float = Field(default=120.0, ge=0)
    metrics_interval_s: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "Autoscaling":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        if self.down_occupancy >= self.up_occupancy:
            raise ValueError(
                f"down_occupancy {self.down_occupancy} must be below up_occupancy {self.up_occupancy}"
            )
        return self

    def to_serve(self) -> AutoscalingConfig:
        """What Serve takes."""
        with warnings.catch_warnings():
            # Ray deprecates the interval for an environment variable, which would be every deployment's.
            warnings.simplefilter("ignore", DeprecationWarning)
            return self._to_serve()

    def _to_serve(self) -> AutoscalingConfig:
        return AutoscalingConfig(
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
            upscale_delay_s=0,
            downscale_delay_s=self.downscale_delay_s,
            metrics_interval_s=self.metrics_interval_s,
            look_back_period_s=2 * self.metrics_interval_s,
            policy=AutoscalingPolicy(
                policy_function=f"{__name__}:{SeatsPolicy.__name__}",
                policy_kwargs={
                    "up_occupancy": self.up_occupancy,
                    "down_occupancy": self.down_occupancy,
                },
            ),
        )


class SeatsPolicy:
    """Serve's autoscaling policy, run in its controller; it keeps no state.

    Pickled by value into a process that may not have this package: it uses nothing else of it.
    """

    def __init__(self, up_occupancy: float, down_occupancy: float) -> None:
        self._up = up_occupancy
        self._down = down_occupancy

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Serve clips the number to its bounds, and goes down only after its delay."""
        latest = _latest(context.raw_metrics or {})
        if not latest.get("seats"):
            return context.target_num_replicas, {}
        wanted = replicas_wanted(
            running=context.current_num_replicas,
            target=context.target_num_replicas,
            used=sum(latest["seats_used"].values()),
            seats_each=max(latest["seats"].values()),
            is_pressed=any(
                value > 0 for name in ("refused", "late_ticks") for value in latest.get(name, {}).values()
            ),
            up_occupancy=self._up,
            down_occupancy=self._down,
        )
        if len(latest["seats"]) < context.current_num_replicas:  # a new one has not reported yet
            wanted = max(wanted, context.target_num_replicas)
        return wanted, {}


def replicas_wanted(
    *,
    running: int,
    target: int,
    used: float,
    seats_each: float,
    is_pressed: bool,
    up_occupancy: float,
    down_occupancy: float,
) -> int:
    """How many replicas hold `used` sessions with room for more.

    `is_pressed`: sessions were refused or ticks late just now. Then one more than run now, at once,
    unless this stage has hardly any sessions.
    """
    enough = max(1, math.ceil(used / (seats_each * up_occupancy)))
    if is_pressed and used > BUSY_SHARE * up_occupancy * seats_each * running:
        enough = max(enough, running + 1)
    if enough >= target:
        return enough
    roomy = max(1, math.ceil(used / (seats_each * down_occupancy)))
    return min(target, max(enough, roomy))


def _latest(metrics: Mapping[str, Mapping[Any, Any]]) -> dict[str, dict[Any, float]]:
    """The newest value of each metric of each replica; Serve gives them as time series."""
    return {
        name: {replica: series[-1].value for replica, series in by_replica.items() if series}
        for name, by_replica in metrics.items()
    }
