"""What many sessions together measured: latency, lateness, silence, losses, and sound that was another's."""

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np

from paluku.client.latency import Latency, reaction_ms, summary
from paluku.config import Config
from paluku.units import MS_PER_S

# One tick to be taken by and one to be answered in: what comes later than that is late.
LATE_FRAMES = 2


class Silence(Config):
    """The longest time without a reply frame, over sessions; 40 ms when nothing is amiss."""

    p50: float
    max: float

    @staticmethod
    def of(gaps_s: Iterable[float]) -> "Silence":
        """Of every session's longest gap in seconds; zeros when there was none."""
        gaps_ms = np.fromiter(gaps_s, float) * MS_PER_S
        if not len(gaps_ms):
            return Silence(p50=0.0, max=0.0)
        return Silence(p50=round(float(np.percentile(gaps_ms, 50)), 1), max=round(float(gaps_ms.max()), 1))


class LoadReport(Config):
    """One measured stretch. Latencies are None when nothing was measured."""

    frames: int  # replies that came while measuring
    reaction: Latency | None  # the user's instants to the reply that could first reflect them
    send_reply: Latency | None  # a frame's last message to its reply, at the client
    late_share: float  # replies that came more than LATE_FRAMES after their frame was sent
    own_late: Latency | None  # this generator's own lateness: part of what stands above
    counts: dict[str, int]
    refused_in: Latency | None  # from asking for a seat to the refusal
    endings: dict[str, int]  # how sessions ended that did not end well


class Tally:
    """Counts always; latencies only while `is_measuring`."""

    def __init__(self) -> None:
        self.is_measuring = False
        self.counts: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self._spent_s, self._waits_s, self._own_late_s, self._refused_s = (array("d") for _ in range(4))
        self._late = 0

    def measure(self) -> None:
        """Begin a stretch: earlier latencies are dropped, counts go on."""
        for values in (self._spent_s, self._waits_s, self._own_late_s, self._refused_s):
            del values[:]
        self._late = 0
        self.is_measuring = True

    def replied(self, spent_s: float, wait_s: float | None, frame_s: float) -> None:
        """A reply came `spent_s` after its frame was sent, `wait_s` after the one it reflects was full."""
        self.counts["replies"] += 1
        if not self.is_measuring:
            return
        self._spent_s.append(spent_s)
        self._late += spent_s > LATE_FRAMES * frame_s
        if wait_s is not None:
            self._waits_s.append(wait_s)

    def said(self, late_s: float) -> None:
        """A message was sent so long after it was due."""
        if self.is_measuring:
            self._own_late_s.append(late_s)

    def refused(self, after_s: float) -> None:
        """A session was told that there is no seat."""
        self.counts["refused"] += 1
        self._refused_s.append(after_s)

    def ended(self, why: str) -> None:
        """A session is over that should not be."""
        self.counts["sessions_lost"] += 1
        self.endings[why] += 1

    def report(self, frame_s: float) -> LoadReport:
        """What this stretch gave."""
        # The instants of a frame spread over its length (client.latency); each pair here is one frame.
        waits = dict(enumerate(self._waits_s))
        reaction = reaction_ms(dict.fromkeys(waits, 0.0), waits, frame_s, delay_frames=0)
        frames = len(self._spent_s)
        return LoadReport(
            frames=frames,
            reaction=summary(reaction),
            send_reply=_summary(self._spent_s),
            late_share=round(self._late / frames, 6) if frames else 0.0,
            own_late=_summary(self._own_late_s),
            counts=dict(self.counts),
            refused_in=_summary(self._refused_s),
            endings=dict(self.endings),
        )


def _summary(seconds: "array[float]") -> Latency | None:
    return summary(np.array(seconds) * MS_PER_S)
