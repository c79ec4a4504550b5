"""Laws of every engine that is installed: no audio is compared with a stored file."""

import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from paluku.corpus.voices import pitch
from paluku.corpus.voices.alignment import estimate
from paluku.corpus.voices.levels import speech_bounds
from paluku.corpus.voices.port import Engine, Prosody, Speech
from paluku.errors import AudioError, ConfigError

SENTENCE = "నమస్కారం, నేను బాగున్నాను. మీరు ఎలా ఉన్నారు?"
SYLLABLES = 18
Speaker = tuple[Engine, str]


@pytest.fixture(scope="module")
def spoken(speaker: Speaker) -> Speech:
    engine, voice = speaker
    return engine.speak(SENTENCE, voice, Prosody())


def test_an_engine_fits_its_port(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert engine.name.islower()
    assert len(engine.voices) == len(set(engine.voices)) >= 5


def test_a_sentence_has_the_pace_and_the_pitch_of_speech(spoken: Speech) -> None:
    wave, rate_hz = spoken.wave, spoken.rate_hz
    assert wave.dtype == np.float32
    assert np.abs(wave).max() <= 1.0
    assert 3 < SYLLABLES / (len(wave) / rate_hz) < 8  # syllables a second, slow reading to quick talk
    contour = pitch.track(wave, rate_hz)
    assert 60 < contour.median_hz < 300
    assert (contour.hz > 0).mean() > 0.4
    assert np.sqrt(np.square(wave).mean()) > 0.02


def test_words_stand_in_the_texts_order_within_the_sound(spoken: Speech) -> None:
    assert spoken.is_timed
    assert " ".join(word.text for word in spoken.words) == SENTENCE
    for word, then in itertools.pairwise(spoken.words):
        assert word.start_s < word.end_s <= then.start_s + 1e-6
    bounds = speech_bounds(spoken.wave, spoken.rate_hz)
    assert spoken.words[0].start_s == pytest.approx(bounds.start / spoken.rate_hz, abs=0.08)
    assert spoken.words[-1].end_s == pytest.approx(bounds.end / spoken.rate_hz, abs=0.08)


def test_pauses_lie_between_the_words_that_punctuation_parts(spoken: Speech) -> None:
    first, second, third, fourth = spoken.words[:4]
    for word, then in ((first, second), (third, fourth)):
        assert then.start_s - word.end_s > 0.08
        pause = spoken.wave[round(word.end_s * spoken.rate_hz) : round(then.start_s * spoken.rate_hz)]
        assert np.sqrt(np.square(pause).mean()) < 0.1 * np.sqrt(np.square(spoken.wave).mean())
    assert third.start_s - second.end_s < 0.08


def test_estimated_words_lie_near_the_engines_own(spoken: Speech) -> None:
    guessed = estimate(SENTENCE, spoken.wave, spoken.rate_hz)
    assert [word.text for word in guessed] == [word.text for word in spoken.words]
    errors = [abs(a.start_s - b.start_s) for a, b in zip(guessed, spoken.words, strict=True)]
    assert np.mean(errors) < 0.06, errors
    assert max(errors) < 0.15, errors


def test_what_was_spoken_before_changes_nothing(speaker: Speaker, spoken: Speech) -> None:
    engine, voice = speaker
    engine.speak("శుభోదయం", engine.voices[-1], Prosody(pitch_range=2))
    np.testing.assert_array_equal(engine.speak(SENTENCE, voice, Prosody()).wave, spoken.wave)


def test_another_process_says_the_same(engine: Engine) -> None:
    code = (
        "import hashlib, sys; from paluku.corpus.voices.port import Prosody\n"
        f"from {type(engine).__module__} import {type(engine).__name__} as E\n"
        "print(hashlib.sha256(E().speak(*sys.argv[1:], Prosody()).wave.tobytes()).hexdigest())"
    )
    voice = engine.voices[1]
    environment = {**os.environ, "PYTHONPATH": "platform"}
    there = subprocess.run(
        [sys.executable, "-c", code, SENTENCE, voice],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    here = hashlib.sha256(engine.speak(SENTENCE, voice, Prosody()).wave.tobytes()).hexdigest()
    assert there.stdout.strip() == here


@pytest.mark.parametrize("text", ["", "   ", "...", "😀", "్", "ా", "ం", "ఁ"])
def test_a_text_that_gives_no_sound_is_refused(engine: Engine, text: str) -> None:
    with pytest.raises(AudioError, match=r"says nothing"):
        engine.speak(text, engine.voices[0], Prosody())


def test_an_unknown_voice_is_refused_with_the_known_ones(engine: Engine) -> None:
    with pytest.raises(ConfigError, match=f"no (voice|variant) 'sita'; choose one of: .*{engine.voices[0]}"):
        engine.speak(SENTENCE, "sita", Prosody())


@pytest.mark.parametrize("text", ['"అవును" – (సరే)', "ఊఁ", "దుఃఖం; అంతే!", "క్షమించండి…", "అ\u200cమ్మ"])
def test_signs_that_are_not_said_do_no_harm(engine: Engine, text: str) -> None:
    speech = engine.speak(text, engine.voices[0], Prosody())
    assert speech.wave.any()
    assert " ".join(word.text for word in speech.words) == text


def test_no_sign_of_a_text_ends_it(engine: Engine) -> None:
    # A quote and a parenthesis would end a Scheme string and its expression.
    speech = engine.speak('అవును") \\ (సరే', engine.voices[0], Prosody())
    assert [word.text for word in speech.words] == ['అవును") \\', "(సరే"]
    assert all(word.end_s - word.start_s > 0.15 for word in speech.words)
