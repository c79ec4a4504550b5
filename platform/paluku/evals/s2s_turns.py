"""What came of each of a user's turns: the reply to it, and whether the reply gave way, or rightly did not.

Where one reply ends and the next begins is told by silence, in the text and in the sound: the middle of the
longest one from the start of the user's next turn to half a second after its end. What a model says before
its first user has asked anything belongs to no turn.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paluku.evals.s2s_answers import LEAST_LETTERS, Answers, Fit, letters
from paluku.evals.s2s_cases import BACKCHANNEL, INTERRUPTION, Case, Turn
from paluku.evals.s2s_drive import Spoken
from paluku.evals.s2s_sound import (
    GOING_ON_S,
    WINDOWS_HZ,
    is_going_on,
    middle_of_silence,
    speaking,
    stops_after_s,
)
from paluku.tokens.text import PAD, TextTokenizer
from paluku.units import MS_PER_S
from paluku.voices import StyleName, VoiceName

# A reply may begin while the user is still speaking, or so long after.
LATE_S = 0.5
# A reply that ends so shortly before the user speaks was talked into.
TALKED_INTO_S = 0.1
# An interrupted reply is waited for so long; one that goes on after it does not stop.
WATCHED_S = 2.0
# Replies that give way do so within 0.4 s (`corpus.dialogues.timing`): one heard after it has not.
GAVE_WAY_S, HEARD_AGAIN_S = 0.45, 0.9


class Exchange(NamedTuple):
    """A question and what was answered; times are of the conversation."""

    number: int  # in its dialogue, from 0
    asked: Turn
    heard: str  # of the question, by the model's own account
    said: str  # the reply's text
    start_s: float | None  # of its sound; None where there is none
    end_s: float | None
    gap_ms: float | None  # from the question's end to the listener's first sound of the reply
    is_cut: bool
    fit: Fit | None

    @property
    def is_right(self) -> bool:
        """Whether it is a fitting answer."""
        return self.fit is not None and self.fit.is_right


class Interjection(NamedTuple):
    """A user who begins to speak while a reply goes on."""

    kind: str  # interruption, backchannel
    at_s: float
    is_during_reply: bool  # else it says nothing: there was no reply, or it had been said
    stop_ms: float | None  # after which the reply was silent, in the conversation's time; None: it went on
    went_on: bool  # it was heard again, or said to its end


class Held(NamedTuple):
    """One conversation, judged."""

    case: Case
    voice: VoiceName
    style: StyleName
    spoken: Spoken
    exchanges: list[Exchange]
    interjections: list[Interjection]
    understood: str  # all that the model says the user said


class Ear(NamedTuple):
    """What conversations are listened to with."""

    tokenizer: TextTokenizer
    answers: Answers
    frame_rate_hz: float
    lag_ms: float


def listen(case: Case, voice: VoiceName, style: StyleName, spoken: Spoken, ear: Ear) -> Held:
    """All of a conversation."""
    active = speaking(spoken.wave, case.rate_hz)
    exchanges = _exchanges(case.asked, spoken, active, ear)
    found = [
        _interjection(turn, case.asked, spoken, active, ear)
        for turn in case.turns
        if turn.kind in (INTERRUPTION, BACKCHANNEL)
    ]
    return Held(case, voice, style, spoken, exchanges, found, text_of(spoken.user_text, ear.tokenizer))


def text_of(tokens: np.ndarray, tokenizer: TextTokenizer) -> str:
    """The words of a stream, without what stands for none."""
    return tokenizer.decode(tokens[tokens != PAD].tolist()).strip()


def edges(active: np.ndarray, asked: Sequence[Turn], rate_hz: float) -> list[int]:
    """Where the replies to the turns begin in a stream, and the stream's end."""
    starts = [0, *(round(turn.start_s * rate_hz) for turn in asked[1:]), len(active)]
    found = []
    for turn, start, after in zip(asked, starts, starts[1:], strict=False):
        last = min(round((turn.end_s + LATE_S) * rate_hz), after, len(active))
        found.append(middle_of_silence(active, min(start, last), last))
    return [*found, len(active)]


def _exchanges(asked: Sequence[Turn], spoken: Spoken, active: np.ndarray, ear: Ear) -> list[Exchange]:
    words = edges(spoken.text != PAD, asked, ear.frame_rate_hz)
    sounds = edges(active, asked, WINDOWS_HZ)
    starts = [round(turn.start_s * ear.frame_rate_hz) for turn in asked]
    starts = [0, *starts[1:], len(spoken.user_text)]
    found = []
    for number, turn in enumerate(asked):
        heard = text_of(spoken.user_text[starts[number] : starts[number + 1]], ear.tokenizer)
        said = text_of(spoken.text[words[number] : words[number + 1]], ear.tokenizer)
        loud = sounds[number] + np.flatnonzero(active[sounds[number] : sounds[number + 1]])
        start_s = float(loud[0]) / WINDOWS_HZ if len(loud) else None
        end_s = float(loud[-1] + 1) / WINDOWS_HZ if len(loud) else None
        gap_ms = None if start_s is None else MS_PER_S * (start_s - turn.end_s) + ear.lag_ms
        is_last = number + 1 == len(asked)
        is_cut = not is_last and end_s is not None and end_s > asked[number + 1].start_s - TALKED_INTO_S
        # Whoever asks the next thing in turn had waited: then next to nothing is no beginning of an answer.
        is_early = is_cut and asked[number + 1].kind == INTERRUPTION
        is_beginning = is_early or (is_cut and len(letters(said)) >= LEAST_LETTERS)
        fit = ear.answers.judge(said, turn.intent, is_cut=is_beginning)
        found.append(Exchange(number, turn, heard, said, start_s, end_s, gap_ms, is_cut, fit))
    return found


def _interjection(
    turn: Turn, asked: Sequence[Turn], spoken: Spoken, active: np.ndarray, ear: Ear
) -> Interjection:
    """The reply it falls into is the one to the last question before it."""
    before = [each for each in asked if each.start_s < turn.start_s]
    later = [each.start_s for each in asked if each.start_s > turn.start_s]
    said_before = said_after = ""
    if before:
        frame = round(turn.start_s * ear.frame_rate_hz)
        first = edges(spoken.text != PAD, [*before, turn], ear.frame_rate_hz)[len(before) - 1]
        until = round(later[0] * ear.frame_rate_hz) if later else len(spoken.text)
        said_before = text_of(spoken.text[first:frame], ear.tokenizer)
        said_after = text_of(spoken.text[first:until], ear.tokenizer)
    intent = before[-1].intent if before else ""
    # A reply in a pause, or a wrong one that had just ended, would "stop" at once for whoever interrupts it.
    within_s = TALKED_INTO_S if turn.kind == INTERRUPTION else GOING_ON_S
    is_during = is_going_on(active, turn.start_s, within_s) and not ear.answers.is_whole(said_before, intent)
    stop_s = stops_after_s(active, turn.start_s, WATCHED_S)
    went_on = _is_heard_again(active, turn.start_s) or ear.answers.is_whole(said_after, intent)
    return Interjection(
        turn.kind, turn.start_s, is_during, None if stop_s is None else MS_PER_S * stop_s, went_on
    )


def _is_heard_again(active: np.ndarray, at_s: float) -> bool:
    first = round((at_s + GAVE_WAY_S) * WINDOWS_HZ)
    return bool(active[first : first + round(HEARD_AGAIN_S * WINDOWS_HZ)].any())
