"""When a reply sounds, and how: on the conversation's time, in windows of 10 ms."""

import itertools
from typing import NamedTuple

import numpy as np

from paluku.corpus.voices.pitch import track
from paluku.evals.s2s_answers import letters

WINDOW_S = 0.01
WINDOWS_HZ = round(1 / WINDOW_S)
# Replies lie at -23 dB full scale; what a codec makes of silence, and the ends of breaths, lie below this.
SPEECH_DBFS = -45.0
# A window is spoken in where most of so many around it are loud: neither a click nor the gap of a stop.
AROUND = 5
# Pauses between words, not within them: what is silent for less is speaking time.
WORD_GAP_S = 0.15
# Whoever is silent for so long has stopped; a pause for breath within a reply is shorter.
STOPPED_S = 0.6
# A reply that sounded so shortly before is going on: it may pause at a comma.
GOING_ON_S = 0.5


def speaking(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Where a wave `[S]` holds speech: bool, a window of 10 ms each."""
    window = round(WINDOW_S * rate_hz)
    power = np.square(np.pad(wave, (0, -len(wave) % window)), dtype=np.float64).reshape(-1, window).mean(1)
    loud = power >= 10 ** (SPEECH_DBFS / 10)
    # How many of the windows around each: differences of a running count.
    counted = np.concatenate([[0], np.pad(loud, AROUND // 2).cumsum()])
    return counted[AROUND:] - counted[:-AROUND] > AROUND / 2


def middle_of_silence(active: np.ndarray, first: int, last: int) -> int:
    """The middle of the longest stretch of `[first, last)` in which nothing is active; `last` without one."""
    best, length, start = last, 0, None
    for place in range(first, last + 1):
        is_quiet = place < last and not active[place]
        if is_quiet and start is None:
            start = place
        if not is_quiet and start is not None:
            if place - start > length:
                best, length = (start + place) // 2, place - start
            start = None
    return best


def is_going_on(active: np.ndarray, at_s: float, within_s: float = GOING_ON_S) -> bool:
    """Whether somebody speaks at a moment, or did just before."""
    at = round(at_s * WINDOWS_HZ)
    return bool(active[max(0, at - round(within_s * WINDOWS_HZ)) : at + 1].any())


def stops_after_s(active: np.ndarray, at_s: float, within_s: float) -> float | None:
    """How long after a moment somebody has fallen silent, for `STOPPED_S` at least; None: not in time."""
    at, hold = round(at_s * WINDOWS_HZ), round(STOPPED_S * WINDOWS_HZ)
    for place in range(at, at + round(within_s * WINDOWS_HZ) + 1):
        if not active[place : place + hold].any():
            return (place - at) * WINDOW_S
    return None


class Change(NamedTuple):
    """One manner against another, as `corpus.voices.port.Prosody` says it."""

    rate: float  # 1.2 is a fifth faster
    pitch_semitones: float
    pitch_range: float  # 2 is twice as wide
    energy_db: float


class Manner(NamedTuple):
    """How something was said."""

    rate: float  # letters a second of speaking time
    pitch_hz: float  # median
    range_semitones: float
    energy_db: float  # of the speech, full scale

    def against(self, neutral: "Manner") -> Change | None:
        """Relative to how the same voice speaks without a style; None where either's pitch never moves."""
        pitches = self.pitch_hz, self.range_semitones, neutral.pitch_hz, neutral.range_semitones
        if not (all(pitches) and neutral.rate):
            return None
        return Change(
            rate=self.rate / neutral.rate,
            pitch_semitones=float(12 * np.log2(self.pitch_hz / neutral.pitch_hz)),
            pitch_range=self.range_semitones / neutral.range_semitones,
            energy_db=self.energy_db - neutral.energy_db,
        )


def manner(wave: np.ndarray, rate_hz: int, text: str) -> Manner | None:
    """Of what was said in a wave `[S]`; None of silence, or without a text."""
    active = speaking(wave, rate_hz)
    said = letters(text)
    if not active.any() or not said:
        return None
    samples = np.repeat(active, round(WINDOW_S * rate_hz))[: len(wave)]
    energy = float(np.square(wave[samples], dtype=np.float64).mean())
    pitch = track(wave, rate_hz)
    spoken_s = _bridged(active, round(WORD_GAP_S * WINDOWS_HZ)).sum() * WINDOW_S
    return Manner(len(said) / spoken_s, pitch.median_hz, pitch.range_semitones, 10 * np.log10(energy))


def _bridged(active: np.ndarray, most: int) -> np.ndarray:
    """With gaps of at most `most` windows filled."""
    bridged, heard = active.copy(), np.flatnonzero(active)
    for before, after in itertools.pairwise(heard):
        if after - before - 1 <= most:
            bridged[before:after] = True
    return bridged
