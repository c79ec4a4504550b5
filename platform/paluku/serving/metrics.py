"""What Prometheus scrapes at `/metrics`: the service's own counts, read when asked; nothing is counted here.

docs/operations.md says what each of them means.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from paluku.serving.gate import Gate
from paluku.serving.service import Service
from paluku.streaming.metrics import Histogram
from paluku.units import MS_PER_S

REFUSED, MOVES = "refused_", "moves_"  # how the counts are named that have a reason

GAUGES = {
    "sessions": "Sessions that are live, those whose client is expected back among them",
    "seats": "Sessions that the stages have seats for",
    "seats_used": "Seats that are leased",
}
COUNTERS = {
    "sessions_opened": "Sessions that were seated for the first time",
    "frames_in": "Frames of the users' sound sent to the stages",
    "frames_caught_up": "Frames sent in the second step of a tick, because their session was behind",
    "ticks_missed": "Ticks that passed while the event loop was held up",
    "ticks_busy": "Ticks at which a lane had no room: its stages were behind",
    "batches_lost": "Messages of a tick that a lane did not answer",
    "resumes": "Sessions that their client took up again",
}


class ServiceCollector(Collector):
    """One serving process. Its series carry its own name: several may answer behind one address."""

    def __init__(self, service: Service, gate: Gate, ingress: str) -> None:
        self._service = service
        self._gate = gate
        self._ingress = ingress

    def collect(self) -> Iterator[Metric]:
        """All series, as they stand."""
        stats, counts = self._service.stats(), self._service.metrics.counts
        for name, text in GAUGES.items():
            yield self._gauge(name, text, stats[name])
        if (reaction_ms := stats.get("reaction_ms")) is not None:
            text = "Estimated mean time from a sound's arrival to the first reply it could have influenced"
            yield self._gauge("reaction_seconds", text, reaction_ms / MS_PER_S)
        for name, text in COUNTERS.items():
            yield self._counters(name, text, {"": counts[name]}, ())
        yield from self._by_reason(counts)
        yield from self._durations()

    def _by_reason(self, counts: Mapping[str, int]) -> Iterator[Metric]:
        late = counts["frames_late"]
        frames = {"on_time": counts["frames_out"] - late, "late": late, "lost": counts["frames_lost"]}
        yield self._counters("frames", "Frames by what became of them", frames, ("outcome",))
        refused = {**_starting(counts, REFUSED), **self._gate.refusals}
        yield self._counters("refusals", "Connections that got no session, by reason", refused, ("reason",))
        moves = _starting(counts, MOVES)
        yield self._counters("moves", "Sessions moved to other seats, by reason", moves, ("reason",))
        endings = self._service.endings
        yield self._counters(
            "endings", "Connections that ended, by the code they ended with", endings, ("code",)
        )

    def _durations(self) -> Iterator[Metric]:
        metrics = self._service.metrics
        tick = {"": metrics.tick_histogram}
        yield self._histograms("tick_seconds", "From sending a tick's batch to its replies", tick, ())
        stages = metrics.stage_histograms
        text = "From sending a batch to a stage to its answer, the way there and back included"
        yield self._histograms("stage_step_seconds", text, stages, ("stage",))

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"paluku_{name}", text, labels=("ingress",))
        family.add_metric((self._ingress,), value)
        return family

    def _counters(self, name: str, text: str, values: Mapping[str, float], label: tuple[str, ...]) -> Metric:
        family = CounterMetricFamily(f"paluku_{name}", text, labels=("ingress", *label))
        for key, value in sorted(values.items()):
            family.add_metric((self._ingress, *_value(key, label)), value)
        return family

    def _histograms(
        self, name: str, text: str, values: Mapping[str, Histogram], label: tuple[str, ...]
    ) -> Metric:
        family = HistogramMetricFamily(f"paluku_{name}", text, labels=("ingress", *label))
        for key, histogram in sorted(values.items()):
            family.add_metric((self._ingress, *_value(key, label)), _buckets(histogram), histogram.sum_s)
        return family


def _value(key: str, label: Iterable[str]) -> tuple[str, ...]:
    """The label's value, where there is a label."""
    return tuple(key for _ in label)


def _starting(counts: Mapping[str, int], start: str) -> dict[str, int]:
    return {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start)}


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them; the last is +Inf."""
    total, buckets = 0, []
    bounds = [*map(str, histogram.bounds_s), "+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def registry(service: Service, gate: Gate) -> CollectorRegistry:
    """A registry of this application alone: Ray has the process's default one."""
    found = CollectorRegistry()
    found.register(ServiceCollector(service, gate, secrets.token_hex(4)))
    return found
