"""Who speaks when: events of the user's speech and of the reply's, and when the one stops the other.

A listener says హా, అవును, ఊఁ while the other speaks, and means: go on. How long speech lasts tells
such backchannels from an interruption only when they are short; what stays true of the longer ones is
that they repeat few sounds (ఊఁ ఊఁ ఊఁ, అవును అవును). So speech over an audible reply interrupts when it has
brought so many *different* sounds: log-mel spectra, free of loudness, each some distance from all
before it. The rules that were compared, and on what, are in docs/benchmarks/2026-11-21-turns.md.

A backchannel gives no event at all, because stock clients stop playing at the word of a start: over
an audible reply the start of the user's speech is told when the rule fires, with the true frame.
"""

import functools
import math
from typing import Literal, NamedTuple

import numpy as np

from paluku.config import Config
from paluku.units import MS_PER_S, PCM16_SCALE

TurnTaking = Literal["semantic", "vad", "none"]


class UserSpeech(NamedTuple):
    """The user began to speak at a frame, or had stopped by it."""

    started: bool
    frame: int


class ReplySpeech(NamedTuple):
    """The reply became audible at a frame, or had fallen silent by it."""

    started: bool
    frame: int


class Interrupt(NamedTuple):
    """Stop the reply: nothing of it from this frame on is to be heard."""

    frame: int


TurnEvent = UserSpeech | ReplySpeech | Interrupt


class TurnConfig(Config):
    """When speech counts. Probabilities are the detector's; the rest has its unit in its name."""

    speech_probability: float = 0.5  # from which speech begins
    silence_probability: float = 0.35  # below which it pauses
    min_speech_ms: float = 80.0  # shorter sounds are none
    min_silence_ms: float = 520.0  # shorter pauses do not end it
    reply_audible_dbfs: float = -50.0  # a frame's level from which the reply is heard
    reply_silent_dbfs: float = -55.0
    reply_min_silence_ms: float = 480.0
    interrupt_after_ms: float = 400.0  # of speech over the reply, at the earliest
    interrupt_sounds: int = 13  # different ones; 0 leaves the durations alone to decide
    interrupt_latest_ms: float = 2_000.0  # of speech over the reply, however few its sounds


class _User(NamedTuple):
    """A stretch of the user's speech, its pauses included."""

    first_frame: int
    end_frame: int  # the frame after its last speech
    voiced: int = 0  # frames of speech
    is_told: bool = False


class TurnTracker:
    """One session's turns. Feed it each frame once, in order."""

    def __init__(self, config: TurnConfig, frame_ms: float) -> None:
        self.turn_taking: TurnTaking = "vad"
        self._config = config
        self._frame_ms = frame_ms
        self._user: _User | None = None
        self._is_audible = False
        self._reply_end = 0  # the frame after the last that was heard
        self._over = 0  # frames of speech over the reply that sounds
        self._sounds = Sounds()

    @property
    def user_is_speaking(self) -> bool:
        """Whether a start was told and no end yet."""
        return self._user is not None and self._user.is_told

    @property
    def reply_is_audible(self) -> bool:
        """Whether a start was told and no end yet."""
        return self._is_audible

    def observe(
        self, frame: int, probability: float, user_pcm: np.ndarray, reply_pcm: np.ndarray | None
    ) -> list[TurnEvent]:
        """What one frame changed. Sound is int16 `[S]`; the reply's is None when there is none to hear.

        An interruption, in the mode "vad" alone, gives the start of the user's speech (unless told
        before), the Interrupt and the end of the reply, both at this frame.
        """
        events: list[TurnEvent] = [*self._hear_reply(frame, reply_pcm)]
        is_speech = self._follow_user(frame, probability)
        if self._user is None:
            return events
        if not is_speech:
            return events + self._pause(frame, self._user)
        if self._is_audible and not self._rule_fires():  # more would only cost time, without bound
            self._over += 1
            self._sounds.add(user_pcm, self._frame_ms)
        return events + self._tell(frame, self._user)

    def stop_reply(self, frame: int) -> list[TurnEvent]:
        """Somebody else stopped the reply at a frame: it counts as silent."""
        if not self._is_audible:
            return []
        self._is_audible = False
        return [ReplySpeech(False, frame)]

    def _hear_reply(self, frame: int, pcm: np.ndarray | None) -> list[ReplySpeech]:
        config = self._config
        needed = config.reply_silent_dbfs if self._is_audible else config.reply_audible_dbfs
        if level_dbfs(pcm) >= needed:
            self._reply_end = frame + 1
            if not self._is_audible:
                self._is_audible = True
                self._count_anew()
                return [ReplySpeech(True, frame)]
        elif (
            self._is_audible and (frame + 1 - self._reply_end) * self._frame_ms >= config.reply_min_silence_ms
        ):
            self._is_audible = False
            return [ReplySpeech(False, self._reply_end)]
        return []

    def _follow_user(self, frame: int, probability: float) -> bool:
        """Begin or lengthen the user's stretch; whether this frame is speech."""
        config, user = self._config, self._user
        if probability < (config.speech_probability if user is None else config.silence_probability):
            return False
        user = user or _User(frame, frame)
        self._user = user._replace(end_frame=frame + 1, voiced=user.voiced + 1)
        return True

    def _pause(self, frame: int, user: _User) -> list[UserSpeech]:
        is_noise = user.voiced * self._frame_ms < self._config.min_speech_ms
        pause_ms = (frame + 1 - user.end_frame) * self._frame_ms
        if pause_ms < (self._config.min_speech_ms if is_noise else self._config.min_silence_ms):
            return []
        self._user = None
        self._count_anew()
        return [UserSpeech(False, user.end_frame)] if user.is_told else []

    def _tell(self, frame: int, user: _User) -> list[TurnEvent]:
        """What a frame of speech makes certain."""
        if user.voiced * self._frame_ms < self._config.min_speech_ms:
            return []
        interrupts = self._is_audible and self._rule_fires()
        if self._is_audible and not interrupts:
            return []
        events: list[TurnEvent] = [] if user.is_told else [UserSpeech(True, user.first_frame)]
        self._user = user._replace(is_told=True)
        if interrupts and self.turn_taking == "vad":
            events += [Interrupt(frame), *self.stop_reply(frame)]
        return events

    def _rule_fires(self) -> bool:
        config, over_ms = self._config, self._over * self._frame_ms
        is_varied = self._sounds.different >= config.interrupt_sounds
        return over_ms >= config.interrupt_latest_ms or (over_ms >= config.interrupt_after_ms and is_varied)

    def _count_anew(self) -> None:
        self._over = 0
        self._sounds = Sounds()


def level_dbfs(pcm: np.ndarray | None) -> float:
    """The level of int16 `[S]` against full scale: 0 is a square wave's, -3 a sine's, None's is -inf."""
    if pcm is None:
        return -math.inf
    wave = pcm.astype(np.float32)
    power = float(wave @ wave) / len(wave) / PCM16_SCALE**2
    return 10 * math.log10(power) if power > 0 else -math.inf


# Sounds: 20 mel bands over what telephones and microphones share, of the newest 32 ms of a frame.
_BANDS, _LOW_HZ, _HIGH_HZ = 20, 120.0, 7_000.0
_WINDOW_MS = 32.0
_REFERENCE_SAMPLES = 512  # of such a window at 16 kHz: levels are as if it had so many
_FLOOR = 1e-4  # of a band's power: what is below it, a quiet room, is all alike
# Root mean square over the bands, in nepers of power: 3.5 dB. Chosen with `interrupt_sounds`, together.
_DIFFERENT = 0.8


class Sounds:
    """Counts the different sounds of a stretch of speech: repetitions and long-drawn ones count once."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []  # [20] each

    @property
    def different(self) -> int:
        """How many there are."""
        return len(self._kept)

    def add(self, pcm: np.ndarray, frame_ms: float) -> None:
        """Hear one more frame, int16 `[S]`."""
        sound = spectrum(pcm, len(pcm) / frame_ms * MS_PER_S)
        if self._kept:
            apart = ((np.stack(self._kept) - sound) ** 2).mean(axis=1)
            if apart.min() <= _DIFFERENT**2:
                return
        self._kept.append(sound)


def spectrum(pcm: np.ndarray, rate_hz: float) -> np.ndarray:
    """The log-mel spectrum of a frame's newest 32 ms, free of its loudness: int16 `[S]` to float `[20]`."""
    window, bank = _analysis(round(rate_hz))
    wave = pcm[-len(window) :] / PCM16_SCALE
    power = np.abs(np.fft.rfft(wave * window[-len(wave) :], len(window))) ** 2
    bands = np.log(bank @ power * (_REFERENCE_SAMPLES / len(window)) ** 2 + _FLOOR)
    return bands - bands.mean()


@functools.lru_cache(maxsize=4)
def _analysis(rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """A Hann window `[W]` and triangular mel filters `[20, W / 2 + 1]`."""
    window = np.hanning(round(rate_hz * _WINDOW_MS / MS_PER_S))
    low, high = _mel(np.array([_LOW_HZ, _HIGH_HZ]))
    edges = np.linspace(low, high, _BANDS + 2)[:, None]
    mels = _mel(np.fft.rfftfreq(len(window), 1 / rate_hz))
    rise = (mels - edges[:-2]) / np.diff(edges[:-1], axis=0)
    fall = (edges[2:] - mels) / np.diff(edges[1:], axis=0)
    return window, np.clip(np.minimum(rise, fall), 0.0, None)


def _mel(hz: np.ndarray) -> np.ndarray:
    """O'Shaughnessy's mel scale."""
    return 2_595 * np.log10(1 + hz / 700)
