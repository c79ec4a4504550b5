"""What a conversation keeps and measures, and the report over it."""

from collections.abc import Sequence

import numpy as np

from paluku.client.latency import Latency, reaction_ms, summary
from paluku.config import Config
from paluku.protocol.messages import Ready, Stats
from paluku.units import FRAME_MS, MS_PER_S


class Report(Config):
    """How a conversation went. Milliseconds; late frames are the server's count."""

    session_id: str
    frames_in: int
    frames_out: int
    late_frames: int
    lost_frames: int  # reply frames that never came, without being interrupted
    resumes: int
    longest_silence_ms: float  # between two reply frames
    reaction: Latency | None  # the user's instants to the reply that could reflect them
    server: Latency | None  # a frame's arrival at the server to its reply leaving it
    pacing_late_p99_ms: float  # this client's own lateness: what it adds to the numbers above
    tick_p50_ms: float
    tick_p99_ms: float
    transcript: str
    user_transcript: str  # what the model understood of the user

    def ticks(self) -> str:
        """The server's ticks in words; of a machine on which most are late, that too."""
        ticks = f"p50 {self.tick_p50_ms:.1f} ms, p99 {self.tick_p99_ms:.1f} ms"
        if self.tick_p50_ms <= FRAME_MS:
            return ticks
        return f"{ticks}; too slow or too busy a machine: a tick has {FRAME_MS:.0f} ms (see make doctor)"


class Record:
    """Everything that happened, on one clock of seconds. Frames are counted over all connections."""

    def __init__(self, keeps_reply: bool) -> None:
        self._keeps_reply = keeps_reply
        self._pcm: list[bytes] = []
        self._texts: list[str] = []
        self._user_texts: list[str] = []
        self.stats: Stats | None = None
        self.full_s: dict[int, float] = {}  # when a frame of the user's was due to be full
        self.sent_s: dict[int, float] = {}
        self.late_s: list[float] = []  # how much later than due frames were ready to be sent
        self.arrived_s: dict[int, float] = {}  # of reply frames
        self.spent_ms: list[float] = []
        self.lost_frames = self.resumes = 0
        self.longest_silence_ms = 0.0
        self.silences_ms: list[float] = []  # those around a resume
        self._next_reply = 0
        self._last_s: float | None = None
        self._has_resumed = self._was_interrupted = False

    @property
    def next_reply(self) -> int:
        """The first reply frame that did not come yet."""
        return self._next_reply

    def replied(self, number: int, pcm: bytes, spent_ms: float, now_s: float) -> None:
        """A reply frame came."""
        if not self._was_interrupted:
            self.lost_frames += number - self._next_reply
        if self._last_s is not None:
            silence_ms = (now_s - self._last_s) * MS_PER_S
            self.longest_silence_ms = max(self.longest_silence_ms, silence_ms)
            if self._has_resumed:
                self.silences_ms.append(silence_ms)
        self._has_resumed = self._was_interrupted = False
        self._next_reply, self._last_s = number + 1, now_s
        self.arrived_s[number] = now_s
        self.spent_ms.append(spent_ms)
        if self._keeps_reply:
            self._pcm.append(pcm)

    def said(self, text: str) -> None:
        """A piece of the transcript came."""
        if self._keeps_reply:
            self._texts.append(text)

    def understood(self, text: str) -> None:
        """A piece of what the user was understood to say came."""
        if self._keeps_reply:
            self._user_texts.append(text)

    def interrupted(self) -> None:
        """Reply frames up to the next one may be missing: they are not to be heard."""
        self._was_interrupted = True

    def resumed(self) -> None:
        """The connection was lost, and another took its place."""
        self.resumes += 1
        self._has_resumed = True

    @property
    def reply(self) -> np.ndarray:
        """The reply so far, int16 `[S]`; it begins with the user's first frame."""
        return np.frombuffer(b"".join(self._pcm), "<i2")

    def reaction_ms(self, ready: Ready) -> np.ndarray:
        """How long each measured instant of the user's waited for a reply that could reflect it."""
        return reaction_ms(
            self.full_s, self.arrived_s, ready.frame_ms / MS_PER_S, ready.acoustic_delay_frames
        )

    def report(self, ready: Ready) -> Report:
        """What was measured."""
        return Report(
            session_id=ready.session_id,
            frames_in=len(self.full_s),
            frames_out=len(self.arrived_s),
            late_frames=self.stats.late_frames if self.stats else 0,
            lost_frames=self.lost_frames,
            resumes=self.resumes,
            longest_silence_ms=round(self.longest_silence_ms, 2),
            reaction=summary(self.reaction_ms(ready)),
            server=summary(np.array(self.spent_ms)),
            pacing_late_p99_ms=round(float(np.percentile(self.late_s or [0.0], 99)) * MS_PER_S, 2),
            tick_p50_ms=self.stats.tick_p50_ms if self.stats else 0.0,
            tick_p99_ms=self.stats.tick_p99_ms if self.stats else 0.0,
            transcript="".join(self._texts),
            user_transcript="".join(self._user_texts),
        )


def pooled_report(records: Sequence[Record], readies: Sequence[Ready]) -> Report:
    """One report over several sessions: the first one's words, the last one's ticks, everybody's latency."""
    reports = [record.report(ready) for record, ready in zip(records, readies, strict=True)]
    summed = ("frames_in", "frames_out", "late_frames", "lost_frames", "resumes")
    worst = ("longest_silence_ms", "pacing_late_p99_ms")
    reactions_ms = [record.reaction_ms(ready) for record, ready in zip(records, readies, strict=True)]
    return reports[0].model_copy(
        update={
            **{name: sum(getattr(report, name) for report in reports) for name in summed},
            **{name: max(getattr(report, name) for report in reports) for name in worst},
            "reaction": summary(np.concatenate(reactions_ms)),
            "server": summary(np.concatenate([np.array(record.spent_ms) for record in records])),
            "tick_p50_ms": reports[-1].tick_p50_ms,
            "tick_p99_ms": reports[-1].tick_p99_ms,
        }
    )
