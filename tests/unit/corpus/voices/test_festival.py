import itertools

import pytest

from paluku.corpus.voices.port import Engine, Prosody
from paluku.errors import AudioError


def test_its_pauses_are_silent(festival: Engine) -> None:
    speech = festival.speak("నమస్కారం, నేను బాగున్నాను. మీరు ఎలా ఉన్నారు?", "nsk_m1", Prosody())
    pauses = [
        speech.wave[
            round((word.end_s + 0.061) * speech.rate_hz) : round((then.start_s - 0.061) * speech.rate_hz)
        ]
        for word, then in itertools.pairwise(speech.words)
        if then.start_s - word.end_s > 0.15
    ]
    assert len(pauses) == 2
    assert not any(pause.any() for pause in pauses)


def test_letters_that_the_voice_lacks_are_refused(festival: Engine) -> None:
    with pytest.raises(AudioError, match=r"makes no sound for 'ఱ ఴ'; write it in other letters"):
        festival.speak("ఱ ఴ", "nsk_m1", Prosody())
