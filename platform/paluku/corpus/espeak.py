"""Telugu spoken by eSpeak NG, through the shared library that the package `espeakng-loader` ships.

A formant synthesiser: robotic, but it speaks any Telugu text, needs no recordings and costs nothing.
The library is GPL-3, the sound it makes is free. https://github.com/espeak-ng/espeak-ng
"""

import ctypes
import threading
from pathlib import Path
from typing import Any, NamedTuple

import espeakng_loader
import numpy as np

from paluku.errors import AudioError, ConfigError
from paluku.units import PCM16_SCALE
from paluku.voices import VoiceName

LANGUAGE = "te"

# speak_lib.h
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_OK = 0

# A breathy variant's noise is drawn from a generator that the library seeds with the time of day.
_NOISE_SEED = 1

_ON_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class EspeakVoice(NamedTuple):
    """A variant (a file in eSpeak's `voices/!v`) and its prosody."""

    variant: str
    rate_wpm: int
    pitch: int  # 0 to 99; the variant says what 50 means in Hz
    pitch_range: int = 50  # 0 to 99; 0 is monotone


# The four reply voices: median pitches of 94, 72, 232 and 166 Hz.
REPLY: dict[VoiceName, EspeakVoice] = {
    "arjun": EspeakVoice("m3", rate_wpm=160, pitch=50, pitch_range=60),
    "ravi": EspeakVoice("Andy", rate_wpm=140, pitch=30),
    "priya": EspeakVoice("linda", rate_wpm=165, pitch=55, pitch_range=60),
    "lakshmi": EspeakVoice("f1", rate_wpm=145, pitch=50),
}

# Whoever speaks to them; no variant is shared with a reply voice.
USERS: dict[str, EspeakVoice] = {
    "user_m1": EspeakVoice("Michael", rate_wpm=160, pitch=50),
    "user_m2": EspeakVoice("klatt2", rate_wpm=145, pitch=38),
    "user_m3": EspeakVoice("m2", rate_wpm=150, pitch=55),
    "user_m4": EspeakVoice("Lee", rate_wpm=170, pitch=45),
    "user_m5": EspeakVoice("m4", rate_wpm=140, pitch=40),
    "user_f1": EspeakVoice("f2", rate_wpm=150, pitch=55),
    "user_f2": EspeakVoice("f3", rate_wpm=155, pitch=60),
    "user_f3": EspeakVoice("belinda", rate_wpm=145, pitch=50),
    "user_f4": EspeakVoice("Annie", rate_wpm=160, pitch=60),
    "user_f5": EspeakVoice("aunty", rate_wpm=140, pitch=50),
}

VOICES: dict[str, EspeakVoice] = {**REPLY, **USERS}

# The library keeps its voice, its parameters and its callback in globals: one utterance at a time.
_LOCK = threading.Lock()


class Espeak:
    """Implements `synthesis.Synthesiser`."""

    @property
    def voices(self) -> tuple[str, ...]:
        """The reply voices, then the users'."""
        return tuple(VOICES)

    def speak(self, text: str, voice: str) -> tuple[np.ndarray, int]:
        """The wave, float32 `[S]`, and its rate in Hz (22,050).

        Raises:
            ConfigError: for a voice that is not in the table.
            AudioError: when the library refuses, or says nothing (a text without letters).
        """
        if voice not in VOICES:
            raise ConfigError(f"there is no voice {voice!r}; choose one of: {', '.join(VOICES)}")
        with _LOCK:
            wave, rate_hz = _speak(text, VOICES[voice])
        if not wave.any():
            raise AudioError(f"eSpeak NG says nothing for {text[:40]!r}; give it a text with letters")
        return wave, rate_hz


def _speak(text: str, voice: EspeakVoice) -> tuple[np.ndarray, int]:
    """Speak with a library loaded for this utterance alone, which takes 3 ms.

    Its globals (flutter phase, noise, wave position) outlive `espeak_Terminate`, so that otherwise an
    utterance would depend on what was spoken before it.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        return _speak_with(library, text, voice)
    finally:
        library.espeak_Terminate()
        close = ctypes.CDLL(None).dlclose
        close.argtypes = [ctypes.c_void_p]
        close(library._handle)


def _speak_with(library: Any, text: str, voice: EspeakVoice) -> tuple[np.ndarray, int]:
    rate_hz = library.espeak_Initialize(
        _SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DO_NOT_EXIT
    )
    if rate_hz <= 0:
        raise AudioError(
            f"eSpeak NG finds no data at {espeakng_loader.get_data_path()}; reinstall espeakng-loader"
        )
    library.espeak_ng_SetRandSeed(ctypes.c_long(_NOISE_SEED))
    parts: list[np.ndarray] = []

    def keep(samples: Any, count: int, _events: int | None) -> int:
        if samples and count:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _ON_SAMPLES(keep)  # a name of its own: it must outlive the synthesis
    library.espeak_SetSynthCallback(callback)
    _set_voice(library, voice)
    utf8 = text.encode() + b"\0"
    if library.espeak_Synth(utf8, ctypes.c_size_t(len(utf8)), 0, 0, 0, _CHARS_UTF8, None, None) != _OK:
        raise AudioError(f"eSpeak NG refused {text[:40]!r}; check the text")
    wave = np.concatenate([np.zeros(0, np.int16), *parts])
    return wave.astype(np.float32) / np.float32(PCM16_SCALE), rate_hz


def _set_voice(library: Any, voice: EspeakVoice) -> None:
    # An unknown variant is silently replaced by the plain language, so that a typo would merge two speakers.
    variant = Path(espeakng_loader.get_data_path()) / "voices" / "!v" / voice.variant
    assert variant.is_file(), f"eSpeak NG has no variant {voice.variant!r}"
    if library.espeak_SetVoiceByName(f"{LANGUAGE}+{voice.variant}".encode()) != _OK:
        raise AudioError(f"eSpeak NG cannot speak {LANGUAGE}+{voice.variant}; reinstall espeakng-loader")
    for parameter, value in ((_RATE, voice.rate_wpm), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
