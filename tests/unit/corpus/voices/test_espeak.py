import numpy as np
import pytest

from paluku.corpus.voices import espeak
from paluku.corpus.voices.espeak import Espeak, EspeakConfig
from paluku.corpus.voices.port import Prosody
from paluku.errors import AudioError

SENTENCE = "నమస్కారం, నేను బాగున్నాను."


def test_every_variant_sounds_unlike_every_other() -> None:
    engine = Espeak()
    voices = [voice for voice in engine.voices if voice[0] in "mf" and voice[1:].isdigit()]
    assert len(voices) == 13
    assert len({engine.speak("అమ్మ", voice, Prosody()).wave.tobytes() for voice in voices}) == 13


def test_breath_noise_is_drawn_from_our_seed_not_from_the_time_of_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = Espeak().speak(SENTENCE, "f2", Prosody()).wave
    monkeypatch.setattr(espeak, "_NOISE_SEED", espeak._NOISE_SEED + 1)
    assert not np.array_equal(Espeak().speak(SENTENCE, "f2", Prosody()).wave, ours)


def test_it_reads_digits_and_latin_words_and_times_them_as_one_word_each() -> None:
    speech = Espeak().speak("మా ఇంట్లో 25 మంది, TV ఉంది", "m3", Prosody())
    assert [word.text for word in speech.words] == ["మా", "ఇంట్లో", "25", "మంది,", "TV", "ఉంది"]
    assert all(word.end_s > word.start_s for word in speech.words)


def test_another_language_can_be_asked_for() -> None:
    telugu = Espeak().speak("hello", "m3", Prosody()).wave
    english = Espeak(EspeakConfig(language="en")).speak("hello", "m3", Prosody()).wave
    assert not np.array_equal(telugu, english)
    with pytest.raises(AudioError, match=r"cannot speak xx-none"):
        Espeak(EspeakConfig(language="xx-none")).speak("hello", "m3", Prosody())


@pytest.mark.parametrize("variant", ["klatt2", "klatt4", "whisper", "croak"])
def test_a_noisy_variant_says_the_same_whatever_was_said_before(variant: str) -> None:
    first = Espeak().speak(SENTENCE, variant, Prosody()).wave
    Espeak().speak("వేరే మాట ఒకటి చెప్పాను.", "klatt3", Prosody())
    assert np.array_equal(Espeak().speak(SENTENCE, variant, Prosody()).wave, first)
