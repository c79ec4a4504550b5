"""Laws of the synthesiser, on the real library: no audio is compared with a stored file."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from paluku.corpus import espeak
from paluku.corpus.espeak import REPLY, USERS, VOICES, Espeak
from paluku.errors import AudioError, ConfigError
from paluku.voices import VOICES as REPLY_NAMES

SENTENCE = "నమస్కారం, నేను బాగున్నాను. మీరు ఎలా ఉన్నారు?"
SYLLABLES = 20

LOWEST_HZ, HIGHEST_HZ = 60, 400


def median_pitch_hz(wave: np.ndarray, rate_hz: int) -> float:
    """Of the voiced frames, by autocorrelation (Boersma 1993, without the refinements)."""
    pitches = []
    for start in range(0, len(wave) - 2048, 1024):
        frame = wave[start : start + 2048].astype(np.float64)
        correlation = np.correlate(frame, frame, "full")[2047:]
        lags = slice(rate_hz // HIGHEST_HZ, rate_hz // LOWEST_HZ)
        lag = lags.start + int(correlation[lags].argmax())
        if correlation[0] > 2048 * 0.02**2 and correlation[lag] > 0.4 * correlation[0]:
            pitches.append(rate_hz / lag)
    return float(np.median(pitches))


@pytest.fixture(scope="module")
def spoken() -> dict[str, tuple[np.ndarray, int]]:
    return {voice: Espeak().speak(SENTENCE, voice) for voice in VOICES}


@pytest.mark.parametrize("voice", VOICES)
def test_a_sentence_has_the_pace_of_speech(spoken: dict[str, tuple[np.ndarray, int]], voice: str) -> None:
    wave, rate_hz = spoken[voice]
    assert wave.dtype == np.float32
    assert np.abs(wave).max() <= 1.0
    assert 3 < SYLLABLES / (len(wave) / rate_hz) < 8  # syllables a second, slow reading to quick talk
    assert np.sqrt(np.square(wave).mean()) > 0.02


def test_every_voice_sounds_unlike_every_other(spoken: dict[str, tuple[np.ndarray, int]]) -> None:
    assert len({wave.tobytes() for wave, _ in spoken.values()}) == len(VOICES)


def test_men_are_deep_and_women_high_and_the_pairs_are_apart(
    spoken: dict[str, tuple[np.ndarray, int]],
) -> None:
    pitch_hz = {voice: median_pitch_hz(*spoken[voice]) for voice in REPLY}
    for voice, hz in pitch_hz.items():
        assert 60 < hz < 130 if voice in ("arjun", "ravi") else 150 < hz < 300, f"{voice}: {hz:.0f} Hz"
    # 10 % are a little under two semitones, which anyone hears.
    assert pitch_hz["arjun"] > 1.1 * pitch_hz["ravi"]
    assert pitch_hz["priya"] > 1.1 * pitch_hz["lakshmi"]


def test_replies_have_the_four_names_and_share_no_variant_with_users() -> None:
    assert tuple(REPLY) == REPLY_NAMES
    assert len({voice.variant for voice in VOICES.values()}) == len(REPLY) + len(USERS)
    assert len(USERS) >= 5


def test_what_was_spoken_before_changes_nothing() -> None:
    synthesiser = Espeak()
    alone = synthesiser.speak(SENTENCE, "user_m2")[0]
    synthesiser.speak("శుభోదయం", "priya")
    np.testing.assert_array_equal(synthesiser.speak(SENTENCE, "user_m2")[0], alone)


def test_another_process_says_the_same() -> None:
    code = (
        "import hashlib, sys; from paluku.corpus.espeak import Espeak\n"
        "print(hashlib.sha256(Espeak().speak(sys.argv[1], 'user_f1')[0].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code, SENTENCE], check=True, capture_output=True, text=True)
    here = hashlib.sha256(Espeak().speak(SENTENCE, "user_f1")[0].tobytes()).hexdigest()
    assert there.stdout.strip() == here


def test_breath_noise_is_drawn_from_our_seed_not_from_the_time_of_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = Espeak().speak(SENTENCE, "user_f1")[0]
    monkeypatch.setattr(espeak, "_NOISE_SEED", espeak._NOISE_SEED + 1)
    assert not np.array_equal(Espeak().speak(SENTENCE, "user_f1")[0], ours)


@pytest.mark.parametrize("text", ["", "   ", "..."])
def test_a_text_that_gives_no_sound_is_refused(text: str) -> None:
    with pytest.raises(AudioError, match="says nothing"):
        Espeak().speak(text, "ravi")


def test_an_unknown_voice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no voice 'sita'; choose one of: arjun, ravi"):
        Espeak().speak(SENTENCE, "sita")
