"""`POST /test`: a built-in clip through a real session of this service, and how it went."""

import asyncio
from collections.abc import Sequence

import numpy as np

from paluku.config import Config
from paluku.errors import ServiceError
from paluku.protocol.messages import CloseCode
from paluku.serving.events import Ending, ReplyFrame
from paluku.serving.service import Service
from paluku.serving.session import Session
from paluku.streaming.clock import Clock
from paluku.streaming.ports import Conditions
from paluku.units import MS_PER_S, PCM16_SCALE

SPEECH_S = 1.6
SILENCE_S = 2.4  # in which a reply would come
# The clip plays in real time; whoever needs this much longer is stuck.
TIMEOUT_S = 10.0
SEED = 1
OVER = Ending.of(CloseCode.GOING_AWAY, "self_test_over", "the self-test waits no longer")


class StageTimes(Config):
    """Step times of a stage over the last minute of the whole service, in milliseconds."""

    p50_ms: float | None
    p99_ms: float | None


class SelfTestReport(Config):
    """What came of a self-test. Latency runs from the arrival of a frame to its reply, in this process."""

    passed: bool  # every frame was answered, none late, and something of it can be heard
    ending: str  # the code the session ended with: done when all went well
    frames_sent: int
    frames_answered: int
    frames_late: int  # answered more than two ticks after they came
    audible_reply: bool
    reply_peak_dbfs: float | None  # None: digital silence
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    latency_max_ms: float | None
    reaction_ms: float | None  # mean, over instants of sound: frame fill, latency and the model's own delay
    tick_p50_ms: float | None
    tick_p99_ms: float | None
    stages: dict[str, StageTimes]


class SelfTestBusyError(ServiceError):
    """One self-test is enough: each takes a seat from a user."""


def clip(sample_rate_hz: int) -> np.ndarray:
    """Four syllables of a voice-like buzz with two formants, then silence: int16 `[S]`, always the same."""
    time_s = np.arange(round(SPEECH_S * sample_rate_hz)) / sample_rate_hz
    pitch_hz = 120 + 20 * np.sin(2 * np.pi * time_s / SPEECH_S)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate_hz
    wave = np.zeros_like(time_s)
    for harmonic in range(1, 25):
        hz = 120 * harmonic
        formants = np.exp(-(((hz - 700) / 250) ** 2)) + 0.5 * np.exp(-(((hz - 1_200) / 300) ** 2))
        wave += (formants + 0.02) * np.sin(harmonic * phase)
    wave *= np.abs(np.sin(np.pi * time_s / 0.4))  # a syllable each 0.4 s
    speech = 0.3 * PCM16_SCALE * wave / np.abs(wave).max()
    return np.concatenate([speech, np.zeros(round(SILENCE_S * sample_rate_hz))]).astype(np.int16)


class SelfTest:
    """Runs one clip at a time through a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._is_running = False

    async def run(self) -> SelfTestReport:
        """Speak the clip in real time and listen to the reply.

        Raises:
            SelfTestBusyError: when one is under way.
            SeatsExhausted: when there is no seat for it.
            StageLostError: when a stage cannot be reached.
            ServiceError: when the session did not end in time.
        """
        if self._is_running:
            raise SelfTestBusyError("a self-test is under way; wait for its end")
        self._is_running = True
        try:
            async with asyncio.timeout(SPEECH_S + SILENCE_S + TIMEOUT_S):
                async with self._service.attached(Conditions(seed=SEED)) as session:
                    try:
                        return await self._talk(session)
                    finally:
                        session.cut_off(OVER)  # unless it has ended: nobody comes back for its seat
        except TimeoutError:
            raise ServiceError(
                "the self-test's session did not end in time; see /stats and the logs"
            ) from None
        finally:
            self._is_running = False

    async def _talk(self, session: Session) -> SelfTestReport:
        card, clock = self._service.card, self._service.clock
        sound = clip(card.sample_rate_hz)
        frames = sound[: len(sound) // card.frame_samples * card.frame_samples].reshape(
            -1, card.frame_samples
        )
        # Halfway between two ticks: what a client gets on average that does not align itself.
        start_s = self._service.next_tick_s + self._service.tick_s / 2
        speaking = asyncio.create_task(speak(session, frames, clock, start_s, self._service.tick_s))
        try:
            replies, ending = await listen(session, clock)
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        return self._report(len(frames), replies, ending)

    def _report(
        self, sent: int, replies: Sequence[tuple[ReplyFrame, float]], ending: Ending
    ) -> SelfTestReport:
        metrics, tick_ms = self._service.metrics, self._service.tick_s * MS_PER_S
        latency_ms = np.array([spent_s * MS_PER_S for _, spent_s in replies])
        late = int((latency_ms > 2 * tick_ms).sum())
        peak = max((int(np.abs(reply.pcm.astype(int)).max()) for reply, _ in replies), default=0)
        audible = any(reply.is_audible for reply, _ in replies)
        some = len(replies) > 0
        delay_ms = (0.5 + self._service.card.acoustic_delay_frames) * tick_ms
        return SelfTestReport(
            passed=len(replies) == sent and late == 0 and audible and ending.error is None,
            ending=ending.code,
            frames_sent=sent,
            frames_answered=len(replies),
            frames_late=late,
            audible_reply=audible,
            reply_peak_dbfs=round(20 * float(np.log10(peak / PCM16_SCALE)), 1) if peak else None,
            latency_p50_ms=float(np.percentile(latency_ms, 50)) if some else None,
            latency_p99_ms=float(np.percentile(latency_ms, 99)) if some else None,
            latency_max_ms=float(latency_ms.max()) if some else None,
            reaction_ms=float(latency_ms.mean()) + delay_ms if some else None,
            tick_p50_ms=metrics.tick_ms(50),
            tick_p99_ms=metrics.tick_ms(99),
            stages={
                name: StageTimes(p50_ms=metrics.stage_ms(name, 50), p99_ms=metrics.stage_ms(name, 99))
                for name in metrics.stages
            },
        )


async def speak(session: Session, frames: np.ndarray, clock: Clock, start_s: float, tick_s: float) -> None:
    """Frames int16 `[F, S]`, the first at an instant, then one a tick, then the end."""
    for number, frame in enumerate(frames):
        await clock.sleep_until(start_s + number * tick_s)
        session.hear(frame.tobytes(), clock.now())
    session.drain(clock.now())


async def listen(session: Session, clock: Clock) -> tuple[list[tuple[ReplyFrame, float]], Ending]:
    """All reply frames, each with the seconds it took, and how the session ended."""
    replies: list[tuple[ReplyFrame, float]] = []
    while True:
        event = await session.outbox.get()
        if isinstance(event, Ending):
            return replies, event
        if isinstance(event, ReplyFrame):
            replies.append((event, clock.now() - event.arrived_s))
