"""What every engine does the same way with the part of prosody that none of them has: pauses and laughs."""

import itertools
from collections.abc import Callable

import numpy as np

from paluku.corpus.voices.alignment import MIN_PAUSE_S, ends_phrase
from paluku.corpus.voices.laugh import CALL, RAISED_SEMITONES, laugh
from paluku.corpus.voices.levels import at_level, speech_bounds
from paluku.corpus.voices.port import Prosody, Speech, Word
from paluku.errors import AudioError

# An engine's own way of saying a sentence: rate, pitch and pitch range, no more.
Say = Callable[[str, str, Prosody], Speech]

_FADE_S = 0.005
# What is left of an engine's own silence before the first word and after the last.
_MARGIN_S = 0.06


def express(say: Say, text: str, voice: str, prosody: Prosody) -> Speech:
    """A sentence with all of its prosody. The gain may lift it above full scale; `Cast` holds levels.

    Raises:
        AudioError: as the engine.
    """
    speech = with_pauses(say(text, voice, prosody), prosody.pauses)
    if prosody.laugh:
        speech = _after_a_laugh(say, voice, prosody, speech)
    gain = np.float32(10 ** (prosody.energy_db / 20))
    return speech._replace(wave=speech.wave * gain if prosody.energy_db else speech.wave)


def with_pauses(speech: Speech, factor: float) -> Speech:
    """Every pause at punctuation made `factor` times as long: its middle is filled or cut."""
    if factor == 1.0:
        return speech
    parts, words, taken_s, cut = [], [], 0.0, 0
    pairs = itertools.zip_longest(speech.words, speech.words[1:])
    for word, after in pairs:
        words.append(Word(word.text, word.start_s + taken_s, word.end_s + taken_s))
        pause_s = after.start_s - word.end_s if after else 0.0
        if not after or pause_s < MIN_PAUSE_S or not ends_phrase(word.text):
            continue
        more = round((factor - 1) * pause_s * speech.rate_hz)
        middle = round((word.end_s + pause_s / 2) * speech.rate_hz)
        until = middle - max(0, -more) // 2
        parts += [_faded_out(speech.wave[cut:until], speech.rate_hz), np.zeros(max(0, more), np.float32)]
        cut = until + max(0, -more)
        taken_s += more / speech.rate_hz
    return speech._replace(wave=np.concatenate([*parts, speech.wave[cut:]]), words=tuple(words))


def trimmed(speech: Speech) -> Speech:
    """Without what an engine puts around the words: HTS 0.7 s of silence, Festival 0.2 s with a click.

    Raises:
        AudioError: when nothing is left, as the engine places the words outside the wave.
    """
    margin, rate_hz = _MARGIN_S, speech.rate_hz
    start = max(0, round((speech.words[0].start_s - margin) * rate_hz))
    end = min(len(speech.wave), round((speech.words[-1].end_s + margin) * rate_hz))
    if start >= end:
        said = " ".join(word.text for word in speech.words)
        raise AudioError(f"the voice makes no sound for {said[:40]!r}; write it in other letters")
    wave = speech.wave[start:end].copy()
    fade = min(round(margin / 2 * rate_hz), len(wave) // 2)
    wave[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
    wave[len(wave) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    words = tuple(Word(w.text, w.start_s - start / rate_hz, w.end_s - start / rate_hz) for w in speech.words)
    return speech._replace(wave=wave, words=words)


def silent_between(speech: Speech) -> Speech:
    """Silence from `_MARGIN_S` after a word to `_MARGIN_S` before the next, with fades towards both.

    Festival's pauses are diphones too: they hiss at -42 to -52 dBFS.
    """
    places, gains = [0.0], [1.0]
    for word, after in itertools.pairwise(speech.words):
        start_s, end_s = word.end_s + _MARGIN_S, after.start_s - _MARGIN_S
        if start_s < end_s:
            places += [start_s - _FADE_S, start_s, end_s, end_s + _FADE_S]
            gains += [1.0, 0.0, 0.0, 1.0]
    times_s = np.arange(len(speech.wave)) / speech.rate_hz
    return speech._replace(wave=speech.wave * np.interp(times_s, places, gains).astype(np.float32))


def _faded_out(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Some engines' pauses are not quite silent, and a step in them would click."""
    faded = wave.copy()
    fade = min(round(_FADE_S * rate_hz), len(faded))
    faded[len(faded) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return faded


def _after_a_laugh(say: Say, voice: str, prosody: Prosody, speech: Speech) -> Speech:
    raised = min(12.0, prosody.pitch_semitones + RAISED_SEMITONES)
    call = say(CALL, voice, Prosody(pitch_semitones=raised, pitch_range=prosody.pitch_range))
    first = laugh(_word(call), call.rate_hz)
    # The silence that an engine opens with would come on top of the laugh's own pause.
    start = min(speech_bounds(speech.wave, speech.rate_hz).start, *_starts(speech))
    shift_s = (len(first) - start) / speech.rate_hz
    words = tuple(Word(w.text, w.start_s + shift_s, w.end_s + shift_s) for w in speech.words)
    return speech._replace(wave=np.concatenate([first, at_level(speech.wave)[start:]]), words=words)


def _word(speech: Speech) -> np.ndarray:
    """The one word alone, as its engine places it: some open and close with a click."""
    start, end = (round(time_s * speech.rate_hz) for time_s in speech.words[0][1:])
    return speech.wave[start:end]


def _starts(speech: Speech) -> list[int]:
    return [round(word.start_s * speech.rate_hz) for word in speech.words[:1]] or [len(speech.wave)]
