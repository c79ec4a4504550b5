"""eSpeak NG, through the shared library that the package `espeakng-loader` ships.

A formant synthesiser: robotic, but it speaks any text of some hundred languages, reads digits, needs no
recordings and costs next to nothing. The library is GPL-3, the sound it makes is free.
https://github.com/espeak-ng/espeak-ng
"""

import ctypes
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import espeakng_loader
import numpy as np

from paluku.config import Config
from paluku.corpus.voices import alignment
from paluku.corpus.voices.expression import express
from paluku.corpus.voices.port import Prosody, Speech
from paluku.errors import AudioError, ConfigError
from paluku.units import PCM16_SCALE

# speak_lib.h
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_LIST_ENDS, _WORD_BEGINS = 0, 1
_OK = 0

# What a rate of 1 is: the pace of reading aloud. The library's own limits are 80 and 450.
NORMAL_WPM = 150
_LEAST_WPM, _MOST_WPM = 80, 450
# Its pitch goes from 0 to 99 with an octave to each side of 50 (`pitch_adjust_tab` in voices.c); its
# range from 0 (monotone) over 50 (the variant's own) to 99.
_MIDDLE, _SEMITONES, _MOST = 50, 12, 99

# A breathy variant's noise is drawn from a generator that the library seeds with the time of day.
_NOISE_SEED = 1

# The library keeps its voice, its parameters and its callback in globals: one utterance at a time.
_LOCK = threading.Lock()


class EspeakConfig(Config):
    """Which language its variants speak."""

    language: str = "te"


class _Event(ctypes.Structure):
    """`espeak_EVENT`; `position` counts characters from 1, `sample` those of the whole utterance."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_ON_SAMPLES = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Start(NamedTuple):
    """The library begins a word."""

    character: int  # in the text, from 0
    sample: int


class Espeak:
    """Implements `port.Engine`; its voices are the variants (files in eSpeak's `voices/!v`)."""

    def __init__(self, config: EspeakConfig | None = None) -> None:
        self._language = (config or EspeakConfig()).language

    @property
    def name(self) -> str:
        """Of the engine."""
        return "espeak"

    @property
    def voices(self) -> tuple[str, ...]:
        """Variants; m1 to m8 are men, f1 to f5 women, the others are named."""
        return variants()

    def speak(self, text: str, voice: str, prosody: Prosody) -> Speech:
        """One sentence, with the library's own word timings.

        Raises:
            ConfigError: for a variant that it does not have.
            AudioError: when the library refuses, or for a text without letters or digits.
        """
        # The library itself would silently speak without an unknown variant: two speakers would merge.
        if voice not in self.voices:
            raise ConfigError(f"eSpeak NG has no variant {voice!r}; choose one of: {', '.join(self.voices)}")
        return express(self._say, text, voice, prosody)

    def _say(self, text: str, voice: str, prosody: Prosody) -> Speech:
        words = alignment.tokens(text)
        # Without a word the library is silent, or it names signs: it calls "😀" a grinning face.
        if not words:
            raise _says_nothing(text)
        with _LOCK:
            wave, rate_hz, starts = _speak(text, f"{self._language}+{voice}", _parameters(prosody))
        if not wave.any():
            raise _says_nothing(text)
        placed = alignment.from_starts(words, _first_of_each(words, starts, rate_hz), wave, rate_hz)
        return Speech(wave, rate_hz, placed, is_timed=True)


def _says_nothing(text: str) -> AudioError:
    return AudioError(f"eSpeak NG says nothing for {text[:40]!r}; give it a text with letters")


@cache
def variants() -> tuple[str, ...]:
    """The names of the library's voice variants, sorted."""
    return tuple(sorted(path.name for path in _folder().iterdir() if path.is_file()))


def is_female(variant: str) -> bool:
    """Whether a variant's file calls it a woman's voice."""
    return "\ngender female" in (_folder() / variant).read_text(encoding="utf-8", errors="replace")


def _folder() -> Path:
    return Path(espeakng_loader.get_data_path()) / "voices" / "!v"


def _parameters(prosody: Prosody) -> tuple[tuple[int, int], ...]:
    wpm = min(max(round(NORMAL_WPM * prosody.rate), _LEAST_WPM), _MOST_WPM)
    pitch = round(_MIDDLE * (1 + prosody.pitch_semitones / _SEMITONES))
    wide = round(_MIDDLE * prosody.pitch_range)
    return ((_RATE, wpm), (_PITCH, min(pitch, _MOST)), (_RANGE, min(wide, _MOST)))


def _first_of_each(
    words: Sequence[alignment.Token], starts: Sequence[_Start], rate_hz: int
) -> list[float | None]:
    """The start of each word in seconds; none where the library read it with the word before."""
    return [
        next((s.sample / rate_hz for s in starts if word.start <= s.character < word.end), None)
        for word in words
    ]


def _speak(
    text: str, name: str, parameters: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, int, list[_Start]]:
    """Speak with a library loaded for this utterance alone, which takes 3 ms.

    Its globals (flutter phase, noise, wave position) outlive `espeak_Terminate`, so that otherwise an
    utterance would depend on what was spoken before it.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        return _speak_with(library, text, name, parameters)
    finally:
        library.espeak_Terminate()
        close = ctypes.CDLL(None).dlclose
        close.argtypes = [ctypes.c_void_p]
        close(library._handle)


def _speak_with(
    library: Any, text: str, name: str, parameters: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, int, list[_Start]]:
    data = espeakng_loader.get_data_path()
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DO_NOT_EXIT)
    if rate_hz <= 0:
        raise AudioError(f"eSpeak NG finds no data at {data}; reinstall espeakng-loader")
    library.espeak_ng_SetRandSeed(ctypes.c_long(_NOISE_SEED))
    ctypes.CDLL(None).srand(_NOISE_SEED)  # the Klatt variants draw theirs from C's own
    parts: list[np.ndarray] = []
    starts: list[_Start] = []

    def keep(samples: Any, count: int, events: Any) -> int:
        if samples and count:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        starts.extend(_word_starts(events))
        return 0

    callback = _ON_SAMPLES(keep)  # a name of its own: it must outlive the synthesis
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(name.encode()) != _OK:
        raise AudioError(f"eSpeak NG cannot speak {name}; check the language or reinstall espeakng-loader")
    for parameter, value in parameters:
        library.espeak_SetParameter(parameter, value, 0)
    utf8 = text.encode() + b"\0"
    if library.espeak_Synth(utf8, ctypes.c_size_t(len(utf8)), 0, 0, 0, _CHARS_UTF8, None, None) != _OK:
        raise AudioError(f"eSpeak NG refused {text[:40]!r}; check the text")
    wave = np.concatenate([np.zeros(0, np.int16), *parts])
    return wave.astype(np.float32) / np.float32(PCM16_SCALE), rate_hz, starts


def _word_starts(events: Any) -> list[_Start]:
    """Of a list that ends with an event of type 0."""
    found, number = [], 0
    while events[number].type != _LIST_ENDS:
        event = events[number]
        if event.type == _WORD_BEGINS:
            found.append(_Start(event.position - 1, event.sample))
        number += 1
    return found
