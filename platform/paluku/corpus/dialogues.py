"""Question and answer as two voices on two channels: what a full-duplex model learns turn-taking from.

Channel 0 is the reply voice, channel 1 the user. Whoever does not speak is silent.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import model_validator

from paluku import audio
from paluku.config import Config
from paluku.corpus.splits import fraction
from paluku.corpus.synthesis import Bounds, Synthesiser, at_level, speech_bounds
from paluku.corpus.turns import Turn
from paluku.units import frame_samples
from paluku.voices import StyleName, VoiceName

REPLY_CHANNEL, USER_CHANNEL = 0, 1

# The synthesiser has no expression to give: rendered dialogues are all of this style.
STYLE: StyleName = "neutral"


class Timing(Config):
    """Silences around and between the turns, drawn uniformly from `(least, most)` seconds."""

    lead_s: tuple[float, float] = (0.2, 0.6)
    # Between people the commonest gap is 0.2 s (Stivers et al. 2009, PNAS 106:10587); a model that
    # must hear the end of the turn first takes a little longer.
    gap_s: tuple[float, float] = (0.2, 0.6)
    tail_s: tuple[float, float] = (0.3, 0.6)

    @model_validator(mode="after")
    def _ordered(self) -> "Timing":
        for name in type(self).model_fields:
            least, most = getattr(self, name)
            if not 0 <= least <= most:
                raise ValueError(f"{name} {least} to {most} must be 0 or more, the lesser first")
        return self


class Dialogue(Config):
    """One dialogue to be rendered."""

    id: str
    question: str
    answer: str
    user_voice: str
    reply_voice: VoiceName
    licence: str
    source: str = "espeak-ng"


class _Spoken(NamedTuple):
    """A turn at the corpus's rate and level."""

    text: str
    wave: np.ndarray  # [S]
    speech: Bounds


def plan_dialogues(
    turns: Sequence[Turn],
    count: int,
    reply_voices: Sequence[VoiceName],
    user_voices: Sequence[str],
    seed: int,
) -> list[Dialogue]:
    """`count` dialogues: every pair once, then every pair by its next reply voice, and so on."""
    planned = []
    for index in range(count):
        lap, place = divmod(index, len(turns))
        name = f"dialogue/{index:06d}"
        planned.append(
            Dialogue(
                id=name,
                question=turns[place].question,
                answer=turns[place].answer,
                user_voice=user_voices[int(fraction(name, seed) * len(user_voices))],
                reply_voice=reply_voices[(place + lap) % len(reply_voices)],
                licence=turns[place].licence,
            )
        )
    return planned


def render(
    dialogue: Dialogue, synthesiser: Synthesiser, rate_hz: int, timing: Timing, seed: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Wave float32 `[S, 2]`, a whole number of 40 ms frames, and its turns with the bounds of speech.

    A pure function of its arguments: the silences are drawn from `seed` and the dialogue's id.

    Raises:
        AudioError: when the synthesiser cannot speak a text.
    """
    draw = np.random.default_rng((seed, int(fraction(dialogue.id, seed) * 2**53)))
    lead, gap, tail = (
        round(draw.uniform(*span) * rate_hz) for span in (timing.lead_s, timing.gap_s, timing.tail_s)
    )
    question = _speak(synthesiser, dialogue.question, dialogue.user_voice, rate_hz)
    answer = _speak(synthesiser, dialogue.answer, dialogue.reply_voice, rate_hz)
    asked = lead
    # The gap lies between speech and speech; an engine's own silence before the answer is part of it.
    answered = asked + question.speech.end + max(gap - answer.speech.start, 0)
    frame = frame_samples(rate_hz)
    end = max(asked + len(question.wave), answered + len(answer.wave) + tail)
    wave = np.zeros((-(-end // frame) * frame, 2), np.float32)
    wave[asked : asked + len(question.wave), USER_CHANNEL] = question.wave
    wave[answered : answered + len(answer.wave), REPLY_CHANNEL] = answer.wave
    return wave, [_turn("user", question, asked, rate_hz), _turn("agent", answer, answered, rate_hz)]


def _speak(synthesiser: Synthesiser, text: str, voice: str, rate_hz: int) -> _Spoken:
    wave, from_hz = synthesiser.speak(text, voice)
    wave = at_level(audio.resample(wave, from_hz, rate_hz))
    return _Spoken(text, wave, speech_bounds(wave, rate_hz))


def _turn(role: str, spoken: _Spoken, at: int, rate_hz: int) -> dict[str, Any]:
    start, end = (at + sample for sample in spoken.speech)
    return {"role": role, "text": spoken.text, "start_s": start / rate_hz, "end_s": end / rate_hz}
