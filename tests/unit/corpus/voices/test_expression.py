import numpy as np
import pytest

from paluku.corpus.voices.expression import express, silent_between, trimmed, with_pauses
from paluku.corpus.voices.port import Prosody, Speech, Word
from paluku.errors import AudioError

RATE_HZ = 10_000


def said(*, pause_s: float = 0.4, mark: str = ",") -> Speech:
    """Half a second, a pause, half a second."""
    word = np.full(5_000, 0.1, np.float32)
    wave = np.concatenate([word, np.zeros(round(pause_s * RATE_HZ), np.float32), word])
    words = (Word(f"ఒకటి{mark}", 0.0, 0.5), Word("రెండు", 0.5 + pause_s, 1.0 + pause_s))
    return Speech(wave, RATE_HZ, words, is_timed=True)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.5])
def test_a_pause_is_scaled_and_nothing_else(factor: float) -> None:
    speech = with_pauses(said(), factor)
    assert len(speech.wave) == round((1.0 + 0.4 * factor) * RATE_HZ)
    first, second = speech.words
    assert (first.start_s, first.end_s) == (0.0, 0.5)
    assert second.start_s == pytest.approx(0.5 + 0.4 * factor)
    assert second.end_s == pytest.approx(1.0 + 0.4 * factor)
    heard = speech.wave != 0
    assert heard.sum() == 10_000
    assert heard[:5_000].all()
    assert heard[-5_000:].all()


@pytest.mark.parametrize("speech", [said(mark=""), said(pause_s=0.05)])
def test_what_is_no_pause_at_punctuation_stays(speech: Speech) -> None:
    np.testing.assert_array_equal(with_pauses(speech, 2.0).wave, speech.wave)


def test_silence_around_the_words_is_cut_and_the_words_move_with_it() -> None:
    speech = said()
    late = Speech(
        np.pad(speech.wave, (7_000, 3_000)),
        RATE_HZ,
        tuple(Word(word.text, word.start_s + 0.7, word.end_s + 0.7) for word in speech.words),
        is_timed=True,
    )
    cut = trimmed(late)
    assert len(cut.wave) == round((1.4 + 2 * 0.06) * RATE_HZ)
    assert [round(word.start_s, 3) for word in cut.words] == [0.06, 0.96]
    assert cut.wave[round(0.06 * RATE_HZ)] == pytest.approx(0.1)


def one_word(*, length_s: float, start_s: float) -> Speech:
    wave = np.full(round(length_s * RATE_HZ), 0.1, np.float32)
    return Speech(wave, RATE_HZ, (Word("ఱ", start_s, start_s + 0.1),), is_timed=True)


def test_a_wave_shorter_than_the_fades_is_faded_all_the_same() -> None:
    wave = trimmed(one_word(length_s=0.02, start_s=0.0)).wave
    assert len(wave) == 200
    assert (wave[0], wave[-1]) == (0.0, 0.0)
    assert wave.max() == pytest.approx(0.1)


def test_words_that_lie_outside_the_wave_are_refused() -> None:
    with pytest.raises(AudioError, match=r"makes no sound for 'ఱ'; write it in other letters"):
        trimmed(one_word(length_s=0.1, start_s=0.2))


def test_between_words_there_is_silence_and_near_them_what_there_was() -> None:
    clean = said()
    hissing = clean._replace(wave=np.where(clean.wave == 0, np.float32(0.01), clean.wave))
    quiet = silent_between(hissing).wave
    changed = np.flatnonzero(quiet != hissing.wave) / RATE_HZ
    # The pause is from 0.5 to 0.9 s; 60 ms at each end stay, the last 5 ms of them faded.
    assert changed.min() == pytest.approx(0.555, abs=2e-4)
    assert changed.max() == pytest.approx(0.845, abs=2e-4)
    assert not quiet[5_600:8_400].any()
    assert np.abs(np.diff(quiet[5_500:8_500])).max() < 0.001


def test_words_without_a_pause_are_left_alone() -> None:
    speech = said(pause_s=0.1)
    np.testing.assert_array_equal(silent_between(speech).wave, speech.wave)


def test_energy_is_a_gain_in_decibels() -> None:
    louder = express(lambda *_: said(), "", "", Prosody(energy_db=6.0))
    assert louder.wave.max() == pytest.approx(0.1 * 1.9953, rel=1e-3)


def test_a_laugh_is_asked_of_the_same_voice_raised() -> None:
    asked: list[tuple[str, str, float]] = []

    def say(text: str, voice: str, prosody: Prosody) -> Speech:
        asked.append((text, voice, prosody.pitch_semitones))
        return said()

    speech = express(say, "ఒకటి, రెండు", "sita", Prosody(pitch_semitones=2.0, laugh=True))
    assert asked == [("ఒకటి, రెండు", "sita", 2.0), ("హా", "sita", 6.0)]
    assert speech.words[1].start_s - speech.words[0].start_s == pytest.approx(0.9)
    assert not speech.wave[round((speech.words[0].start_s - 0.1) * RATE_HZ)]
