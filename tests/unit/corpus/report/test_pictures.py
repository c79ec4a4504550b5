import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from paluku.corpus.report.pictures import envelope, spectrogram_png, spectrum_db, ticks, waveform_svg
from tests.fakes.folders import RATE_HZ, tone


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_few_round_and_inside(low: float, length: float) -> None:
    found = ticks(low, low + length)
    step = length / 5
    assert 1 <= len(found) <= 7
    assert all(low - step * 0.01 <= value <= low + length + step * 0.01 for value in found)


def test_ticks_of_a_worked_example() -> None:
    assert ticks(0, 30) == [0, 10, 20, 30]
    assert ticks(-0.5, 1.5) == [-0.5, 0.0, 0.5, 1.0, 1.5]
    with pytest.raises(ValueError, match="no ticks between 1 and 1"):
        ticks(1, 1)


def test_an_envelope_holds_the_wave_and_its_extremes() -> None:
    wave = np.random.default_rng(0).standard_normal(10_000)
    lows, highs = envelope(wave, 600)
    assert (lows.min(), highs.max()) == (wave.min(), wave.max())
    assert [len(bound) for bound in envelope(wave[:100], 600)] == [600, 600]


@pytest.mark.parametrize("seconds", [0.005, 0.5, 8.0])
def test_a_tones_spectrum_stands_at_its_pitch(seconds: float) -> None:
    levels_db = spectrum_db(tone(seconds, pitch_hz=2000.0)[:, 0], RATE_HZ)
    rows = levels_db.shape[0]
    row_hz = RATE_HZ / 2 / rows
    loudest_hz = (rows - 1 - levels_db.mean(axis=1).argmax()) * row_hz
    assert math.isclose(loudest_hz, 2000.0, abs_tol=2 * row_hz)
    assert image.imread(io.BytesIO(spectrogram_png(tone(seconds)[:, 0], RATE_HZ))).shape[0] == rows


def test_silence_has_a_picture_too() -> None:
    assert spectrogram_png(np.zeros(RATE_HZ, np.float32), RATE_HZ).startswith(b"\x89PNG")


def test_turns_are_shaded_where_they_are_said() -> None:
    turns = [{"start_s": 1.0, "end_s": 9.0, "kind": "cut"}]
    drawn = waveform_svg(tone(4.0)[:, 0], RATE_HZ, turns, "reply")
    assert '<rect class="said cut" x="150.0" y="0" width="450.0"' in drawn  # to the end and not beyond
    assert 'aria-label="reply waveform, 4.0 s"' in drawn
