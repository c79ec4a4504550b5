"""What Prometheus scrapes at `/metrics`: the service's own counts, read when asked; nothing is counted here.

docs/operations.md says what each of them means.
"""

import importlib.metadata
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from paluku.serving.gate import Gate
from paluku.serving.machine import Machine, MachineWatch
from paluku.serving.service import MOVES, Service
from paluku.streaming.metrics import Histogram
from paluku.units import MS_PER_S

REFUSED, MOVED = "refused_", "moves_"  # how the counts are named that have a reason

# What a reason may be from the start: a series that first appears with its first event hides that event
# from `rate` and `increase`, which need a value before it.
REFUSALS = ("seats", "late")
# Endings that are a fault of ours.
FAULTS = ("internal_error", "stage_lost")

GAUGES = {
    "sessions": "Sessions that are live, those whose client is expected back among them",
    "sessions_waiting": "Sessions whose client is gone and expected back",
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
# Of `Machine`, by the field.
MACHINE = {
    "memory_resident_bytes": ("memory_resident_bytes", "Resident memory of the process"),
    "disk_free_bytes": ("disk_free_bytes", "Free bytes of the disk the process keeps its files on"),
    "disk_size_bytes": ("disk_size_bytes", "Size of that disk"),
    "gpu_free_bytes": ("gpu_memory_free_bytes", "Free memory of the GPU the process computes on"),
    "gpu_size_bytes": ("gpu_memory_size_bytes", "Memory of that GPU"),
}


class _Place(NamedTuple):
    """A serving process, as the labels name it."""

    stage: str
    replica: str
    machine: Machine


class ServiceCollector(Collector):
    """One serving process. Its series carry its own name: several may answer behind one address."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self._service = service
        self._gate = gate
        self._ingress = service.name
        # An ingress keeps no model: what fills its disk are logs, which Ray has below this folder.
        self._watch = MachineWatch(Path(tempfile.gettempdir()), service.clock)

    def collect(self) -> Iterator[Metric]:
        """All series, as they stand."""
        yield self._build()
        yield from self._seats()
        counts = self._service.metrics.counts
        for name, text in COUNTERS.items():
            yield self._counters(name, text, {"": counts[name]}, ())
        yield from self._by_reason(counts)
        yield from self._durations()
        yield from self._machines()

    def _build(self) -> Metric:
        labels = {"version": importlib.metadata.version("paluku"), "bundle": self._service.card.bundle}
        family = GaugeMetricFamily(
            "paluku_build_info", "What is served; always 1", labels=("ingress", *labels)
        )
        family.add_metric((self._ingress, *labels.values()), 1)
        return family

    def _seats(self) -> Iterator[Metric]:
        stats = self._service.stats()
        for name, text in GAUGES.items():
            yield self._gauge(name, text, stats[name])
        free = min((stage["seats"] - stage["seats_used"] for stage in stats["stages"].values()), default=0)
        yield self._gauge("seats_free", "Sessions that would still find a seat on every stage", max(0, free))
        yield self._gauge("frame_seconds", "Length of a frame, and so of a tick", self._service.tick_s)
        if (reaction_ms := stats["reaction_ms"]) is not None:
            text = "Estimated time from a sound's arrival to the first reply it could have influenced"
            yield self._gauge("reaction_seconds", text, reaction_ms / MS_PER_S)

    def _by_reason(self, counts: Mapping[str, int]) -> Iterator[Metric]:
        late = counts["frames_late"]
        frames = {"on_time": counts["frames_out"] - late, "late": late, "lost": counts["frames_lost"]}
        yield self._counters("frames", "Frames by what became of them", frames, ("outcome",))
        refused = dict.fromkeys(REFUSALS, 0) | _starting(counts, REFUSED) | dict(self._gate.refusals)
        yield self._counters("refusals", "Connections that got no session, by reason", refused, ("reason",))
        moves = dict.fromkeys(MOVES, 0) | _starting(counts, MOVED)
        yield self._counters("moves", "Sessions moved to other seats, by reason", moves, ("reason",))
        endings = {"done": 0} | dict(self._service.endings)
        text = "Connections that ended, by the code they ended with"
        yield self._counters("endings", text, endings, ("code",))
        faults = {code: endings.get(code, 0) for code in FAULTS}
        yield self._counters("errors", "Connections that a fault of the server ended", faults, ("code",))

    def _durations(self) -> Iterator[Metric]:
        metrics = self._service.metrics
        tick, answers = {"": metrics.tick_histogram}, {"": metrics.answer_histogram}
        yield self._histograms("tick_seconds", "From sending a tick's batch to its replies", tick, ())
        text = "From the arrival of a frame of sound to its reply, in the server"
        yield self._histograms("answer_seconds", text, answers, ())
        stages = metrics.stage_histograms
        text = "From sending a batch to a stage to its answer, the way there and back included"
        yield self._histograms("stage_step_seconds", text, stages, ("stage",))

    def _machines(self) -> Iterator[Metric]:
        places = list(self._places())
        for field, (name, text) in MACHINE.items():
            family = GaugeMetricFamily(f"paluku_{name}", text, labels=("ingress", "stage", "replica", "node"))
            for stage, replica, machine in places:
                if (value := getattr(machine, field)) is not None:
                    family.add_metric((self._ingress, stage, replica, machine.node), value)
            if family.samples:
                yield family

    def _places(self) -> Iterator[_Place]:
        """This process, and every replica as it last spoke of itself."""
        yield _Place("ingress", self._ingress, self._watch.latest)
        for stage, members in self._service.members.items():
            for member in members:
                if member.status.machine is not None:
                    yield _Place(stage, member.replica.replica_id, member.status.machine)

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
    found.register(ServiceCollector(service, gate))
    return found
