"""Each style moves tempo, pitch, range and level as its table says, whatever the engine."""

import numpy as np
import pytest

from paluku.corpus.voices import pitch
from paluku.corpus.voices.port import Engine, Prosody, Speech
from paluku.corpus.voices.styles import STYLE_PROSODY, styled
from paluku.voices import STYLES, StyleName

SENTENCE = "నమస్కారం, నేను బాగున్నాను. మీరు ఎలా ఉన్నారు?"
Speaker = tuple[Engine, str]
# What the ear tells apart, and more than the estimates err by.
SEMITONE = 2 ** (1 / 12)


@pytest.fixture(scope="module")
def said(speaker: Speaker) -> dict[StyleName, Speech]:
    engine, voice = speaker
    return {style: engine.speak(SENTENCE, voice, styled(Prosody(), style)) for style in STYLES}


def speaking_s(speech: Speech) -> float:
    return sum(word.end_s - word.start_s for word in speech.words)


def pausing_s(speech: Speech) -> float:
    return speech.words[-1].end_s - speech.words[0].start_s - speaking_s(speech)


def contour(speech: Speech) -> pitch.Pitch:
    """Of the sentence, without a laugh before it."""
    return pitch.track(speech.wave[round(speech.words[0].start_s * speech.rate_hz) :], speech.rate_hz)


def test_every_style_has_its_prosody_and_neutral_changes_nothing() -> None:
    assert tuple(STYLE_PROSODY) == STYLES
    assert STYLE_PROSODY["neutral"] == Prosody()
    assert len(set(map(Prosody.to_json, STYLE_PROSODY.values()))) == len(STYLES)


@pytest.mark.parametrize("style", STYLES)
def test_tempo_is_the_tables(said: dict[StyleName, Speech], style: StyleName) -> None:
    faster = speaking_s(said["neutral"]) / speaking_s(said[style])
    assert faster == pytest.approx(STYLE_PROSODY[style].rate, rel=0.07)


@pytest.mark.parametrize("style", STYLES)
def test_pitch_is_the_tables_within_a_semitone(said: dict[StyleName, Speech], style: StyleName) -> None:
    moved = 12 * np.log2(contour(said[style]).median_hz / contour(said["neutral"]).median_hz)
    assert moved == pytest.approx(STYLE_PROSODY[style].pitch_semitones, abs=1.0)


@pytest.mark.parametrize("style", [s for s in STYLES if STYLE_PROSODY[s].pitch_range != 1])
def test_range_is_wider_or_narrower_as_the_table_says(
    said: dict[StyleName, Speech], style: StyleName
) -> None:
    wider = contour(said[style]).range_semitones / contour(said["neutral"]).range_semitones
    assert wider > 1.1 if STYLE_PROSODY[style].pitch_range > 1 else wider < 0.85


@pytest.mark.parametrize("style", [s for s in STYLES if not 0.85 < STYLE_PROSODY[s].pauses <= 1.2])
def test_pauses_are_longer_or_shorter_as_the_table_says(
    said: dict[StyleName, Speech], style: StyleName
) -> None:
    longer = pausing_s(said[style]) / pausing_s(said["neutral"])
    assert longer > 1.15 if STYLE_PROSODY[style].pauses > 1 else longer < 0.9


@pytest.mark.parametrize("style", [s for s in STYLES if not STYLE_PROSODY[s].laugh])
def test_energy_is_the_tables(said: dict[StyleName, Speech], speaker: Speaker, style: StyleName) -> None:
    engine, voice = speaker
    flat = styled(Prosody(), style).model_copy(update={"energy_db": 0.0})
    quiet = np.square(engine.speak(SENTENCE, voice, flat).wave).mean()
    gain_db = 10 * np.log10(np.square(said[style].wave).mean() / quiet)
    assert gain_db == pytest.approx(STYLE_PROSODY[style].energy_db, abs=0.01)


def test_a_laugh_comes_before_the_sentence(said: dict[StyleName, Speech]) -> None:
    laughing = said["laugh"]
    first = laughing.words[0].start_s
    assert 1.0 < first < 1.6
    window = round(0.02 * laughing.rate_hz)
    before = laughing.wave[: round(first * laughing.rate_hz)]
    level = np.sqrt(np.square(before[: len(before) // window * window].reshape(-1, window)).mean(axis=1))
    loud = level > 0.2 * level.max()
    calls = int((np.diff(loud.astype(int)) == 1).sum()) + int(loud[0])
    assert calls == 5
    assert level[: len(level) // 2].max() > 1.3 * level[len(level) * 3 // 5 :].max(), "it dies away"
    assert not loud[-4:].any(), "a pause before the words"


def test_a_style_goes_on_top_of_a_voice_and_stays_within_bounds() -> None:
    base = Prosody(rate=1.1, pitch_semitones=-4.8, pitch_range=2, energy_db=1, pauses=0.5)
    assert styled(base, "empathy") == Prosody(
        rate=1.1 * 0.87, pitch_semitones=-6.3, pitch_range=1.4, energy_db=-2, pauses=0.7
    )
    extreme = Prosody(rate=2.9, pitch_semitones=12, pitch_range=3, energy_db=12, pauses=4)
    assert styled(extreme, "excited").pitch_semitones == 12
