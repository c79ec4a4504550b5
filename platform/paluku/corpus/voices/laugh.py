"""A laugh in a voice's own sound: "ha" said once, repeated with falling pitch and strength.

Bachorowski, Smoski & Owren 2001, "The acoustic features of human laughter" (JASA 110:1581): about 4.4
calls a second, each mostly unvoiced breath and a short vowel, well above the speaker's usual pitch.
"""

from typing import NamedTuple

import numpy as np

from paluku.corpus.voices.levels import at_level
from paluku.corpus.voices.psola import reshape

# What an engine is asked to say, and how much higher than its sentence.
CALL = "హా"
RAISED_SEMITONES = 4.0

_CALLS_PER_S = 4.6
_CALL_S, _FADE_S, _ATTACK_S = 0.19, 0.06, 0.01
_PAUSE_S = 0.15  # between the laugh and what is said


class _Call(NamedTuple):
    semitones: float
    loudness: float


# A rise to the second call, then down; every call shorter of breath.
_CALLS = (_Call(0.0, 0.7), _Call(1.5, 1.0), _Call(0.5, 0.8), _Call(-1.0, 0.6), _Call(-3.0, 0.4))


def laugh(said: np.ndarray, rate_hz: int) -> np.ndarray:
    """Float32 `[S]`, 1.2 s at `LEVEL_DBFS` with the pause after it; `said` is the voice's `CALL` alone."""
    call = said[: round(_CALL_S * rate_hz)]
    fade, attack = round(_FADE_S * rate_hz), round(_ATTACK_S * rate_hz)
    shape = np.ones(len(call), np.float32)
    shape[: min(attack, len(call))] *= np.linspace(0, 1, attack, dtype=np.float32)[: len(call)]
    shape[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[-len(call) :]
    step = round(rate_hz / _CALLS_PER_S)
    out = np.zeros(step * len(_CALLS), np.float32)
    for number, (semitones, loudness) in enumerate(_CALLS):
        pitched = reshape(call, rate_hz, semitones=semitones)[:step] * shape[:step]
        out[number * step : number * step + len(pitched)] += loudness * pitched
    return np.pad(at_level(out), (0, round(_PAUSE_S * rate_hz)))
