"""Turns told from probabilities and sound: starts, ends, backchannels, interruptions."""

import math

import numpy as np
import pytest

from paluku.streaming.turns import (
    Interrupt,
    ReplySpeech,
    Sounds,
    TurnConfig,
    TurnEvent,
    TurnTracker,
    UserSpeech,
    level_dbfs,
)

RATE_HZ, SAMPLES, FRAME_MS = 16_000, 640, 40.0
SILENCE = np.zeros(SAMPLES, np.int16)
REPLY = np.full(SAMPLES, 9_000, np.int16)
CONFIG = TurnConfig()
# What the config's durations are in frames of 40 ms.
LEAST, PAUSE, REPLY_PAUSE, LATEST = 2, 13, 12, 50


def tone(hz: float, level: float = 0.3, rate_hz: int = RATE_HZ) -> np.ndarray:
    times_s = np.arange(round(rate_hz * FRAME_MS / 1e3)) / rate_hz
    return (np.sin(2 * np.pi * hz * times_s) * level * 32_767).astype(np.int16)


HUM = tone(200.0)
# Each far from the others: one sound a frame.
VARIED = [tone(hz) for hz in np.geomspace(200.0, 6_000.0, CONFIG.interrupt_sounds)]


class Talk:
    """Plays frames to a tracker and keeps what it tells."""

    def __init__(self, config: TurnConfig = CONFIG) -> None:
        self.tracker = TurnTracker(config, FRAME_MS)
        self.events: list[tuple[int, TurnEvent]] = []  # with the frame that was played when it was told
        self.frame = 0

    def play(self, frames: int, user: bool | list[np.ndarray] = False, reply: bool = False) -> "Talk":
        for number in range(frames):
            sound = user[number % len(user)] if isinstance(user, list) else HUM if user else SILENCE
            probability = 0.9 if user else 0.05
            told = self.tracker.observe(self.frame, probability, sound, REPLY if reply else None)
            self.events += [(self.frame, event) for event in told]
            self.frame += 1
        return self

    @property
    def told(self) -> list[TurnEvent]:
        return [event for _, event in self.events]


def test_speech_into_silence_is_told_at_once_with_its_first_frame() -> None:
    talk = Talk().play(10).play(20, user=True).play(30)
    assert talk.events == [
        (10 + LEAST - 1, UserSpeech(True, 10)),
        (30 + PAUSE - 1, UserSpeech(False, 30)),
    ]
    assert not talk.tracker.user_is_speaking


def test_a_pause_shorter_than_the_hangover_is_no_end() -> None:
    talk = Talk().play(10, user=True).play(PAUSE - 1).play(10, user=True)
    assert talk.told == [UserSpeech(True, 0)]
    assert talk.tracker.user_is_speaking


def test_a_click_is_no_speech() -> None:
    talk = Talk()
    for _ in range(20):
        talk.play(1, user=True).play(3)
    assert talk.told == []


def test_hysteresis_keeps_speech_that_falls_between_the_thresholds() -> None:
    tracker = TurnTracker(CONFIG, FRAME_MS)
    events = [event for n in range(60) for event in tracker.observe(n, 0.9 if n < 3 else 0.4, HUM, None)]
    assert events == [UserSpeech(True, 0)]
    alone = TurnTracker(CONFIG, FRAME_MS)
    assert [event for n in range(60) for event in alone.observe(n, 0.4, HUM, None)] == []


def test_the_reply_is_audible_until_it_pauses_for_long() -> None:
    talk = Talk().play(3).play(5, reply=True).play(REPLY_PAUSE - 1).play(5, reply=True).play(REPLY_PAUSE)
    assert talk.told == [ReplySpeech(True, 3), ReplySpeech(False, 3 + 5 + REPLY_PAUSE - 1 + 5)]


@pytest.mark.parametrize(("start_dbfs", "then_dbfs", "is_audible"), [(-49, -54, True), (-51, -51, False)])
def test_audibility_has_hysteresis(start_dbfs: float, then_dbfs: float, is_audible: bool) -> None:
    tracker = TurnTracker(CONFIG, FRAME_MS)
    for number in range(40):
        level = start_dbfs if number < 2 else then_dbfs
        pcm = np.full(SAMPLES, round(32_767 * 10 ** (level / 20)), np.int16)
        tracker.observe(number, 0.0, SILENCE, pcm)
    assert tracker.reply_is_audible is is_audible


def test_levels() -> None:
    assert level_dbfs(np.full(SAMPLES, 32_767, np.int16)) == pytest.approx(0.0, abs=0.01)
    assert level_dbfs(tone(1_000.0, level=1.0)) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(SILENCE) == level_dbfs(None) == -math.inf


@pytest.mark.parametrize("turn_taking", ["vad", "semantic", "none"])
def test_a_backchannel_is_not_told_at_all(turn_taking: str) -> None:
    talk = Talk()
    talk.tracker.turn_taking = turn_taking  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(5):  # ఊఁ ... ఊఁ ...: each is a stretch of its own
        talk.play(10, user=[HUM, tone(400.0)], reply=True).play(PAUSE, reply=True)
    talk.play(10, user=True, reply=True).play(40, reply=True).play(40)
    assert talk.told == [ReplySpeech(True, 0), ReplySpeech(False, talk.frame - 40)]


def test_varied_speech_over_the_reply_interrupts_in_the_frame_that_decides() -> None:
    talk = Talk().play(20, reply=True).play(40, user=VARIED, reply=True)
    decided = 20 + CONFIG.interrupt_sounds - 1
    assert talk.events[1:4] == [
        (decided, UserSpeech(True, 20)),
        (decided, Interrupt(decided)),
        (decided, ReplySpeech(False, decided)),
    ]


def test_a_long_hum_interrupts_at_the_latest() -> None:
    talk = Talk().play(20, reply=True).play(LATEST - 1, user=True, reply=True)
    assert talk.told == [ReplySpeech(True, 0)]
    talk.play(1, user=True, reply=True)
    assert talk.told[1:] == [
        UserSpeech(True, 20),
        Interrupt(20 + LATEST - 1),
        ReplySpeech(False, 20 + LATEST - 1),
    ]


def test_durations_alone_decide_without_sounds() -> None:
    config = TurnConfig(interrupt_sounds=0, interrupt_after_ms=400)
    talk = Talk(config).play(1, reply=True).play(9, user=True, reply=True)
    assert talk.told == [ReplySpeech(True, 0)]
    assert Interrupt(10) in talk.play(1, user=True, reply=True).told


@pytest.mark.parametrize("turn_taking", ["semantic", "none"])
def test_only_vad_interrupts(turn_taking: str) -> None:
    talk = Talk()
    talk.tracker.turn_taking = turn_taking  # pyright: ignore[reportAttributeAccessIssue]
    talk.play(20, reply=True).play(40, user=VARIED, reply=True)
    assert talk.told == [ReplySpeech(True, 0), UserSpeech(True, 20)]
    assert talk.tracker.reply_is_audible


def test_a_start_that_was_held_back_is_told_when_the_reply_falls_silent() -> None:
    talk = Talk().play(5, reply=True).play(4, user=True, reply=True).play(20, user=True)
    silent_at = 9 + REPLY_PAUSE - 1
    assert talk.events[1:] == [(silent_at, ReplySpeech(False, 9)), (silent_at, UserSpeech(True, 5))]


def test_a_backchannel_at_the_replys_end_is_not_told_late() -> None:
    talk = Talk().play(5, reply=True).play(6, user=True, reply=True).play(60)
    assert talk.told == [ReplySpeech(True, 0), ReplySpeech(False, 11)]


def test_a_reply_that_starts_while_the_user_speaks_is_interrupted_for_what_is_said_over_it() -> None:
    talk = Talk().play(30, user=VARIED)
    talk.play(CONFIG.interrupt_sounds - 1, user=VARIED, reply=True)
    assert talk.told == [UserSpeech(True, 0), ReplySpeech(True, 30)]
    decided = talk.frame
    talk.play(1, user=VARIED[-1:], reply=True)
    assert talk.told[2:] == [Interrupt(decided), ReplySpeech(False, decided)]


def test_a_reply_stopped_by_someone_else_is_silent() -> None:
    talk = Talk().play(5, reply=True)
    assert talk.tracker.stop_reply(5) == [ReplySpeech(False, 5)]
    assert talk.tracker.stop_reply(5) == []
    assert talk.play(3).told == [ReplySpeech(True, 0)]


def sounds(frames: list[np.ndarray]) -> int:
    heard = Sounds()
    for pcm in frames:
        heard.add(pcm, FRAME_MS)
    return heard.different


def test_repetition_and_loudness_bring_no_new_sounds() -> None:
    assert sounds(VARIED) == len(VARIED)
    assert sounds(VARIED * 3) == len(VARIED)
    assert sounds([HUM, tone(200.0, 0.15), tone(200.0, 0.6)]) == 1


def test_sounds_are_the_same_at_any_rate() -> None:
    frequencies = [300.0, 900.0, 2_500.0]
    for rate_hz in (16_000, 24_000, 48_000):
        mixed = [tone(hz, rate_hz=rate) for hz in frequencies for rate in (16_000, rate_hz)]
        assert sounds(mixed) == 3


def test_a_mode_that_does_not_interrupt_does_not_forget_what_was_said_over_the_reply() -> None:
    talk = Talk()
    talk.tracker.turn_taking = "semantic"
    talk.play(1, reply=True).play(200, user=VARIED, reply=True)
    talk.tracker.turn_taking = "vad"
    at = talk.frame
    assert talk.play(1, user=True, reply=True).told[-2:] == [Interrupt(at), ReplySpeech(False, at)]
