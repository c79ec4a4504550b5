"""A dialogue in other voices: frequencies move, times and everything else stay."""

import numpy as np
import pytest

from paluku.audio import read, to_flac
from paluku.tokens.extract import AGENT, USER
from paluku.tokens.voicing import LEAST_SHARE, MOST, other_voice, shift_of, shifted

RATE_HZ = 16_000


def bursts(frequency_hz: float) -> np.ndarray:
    """A tone of 0.2 s in every half second, 3 s."""
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time) * (time % 0.5 < 0.2)).astype(np.float32)


@pytest.mark.parametrize("factor", [1 / MOST, 0.9, 1.1, MOST])
def test_a_tone_moves_by_the_factor_and_is_heard_when_it_was(factor: float) -> None:
    wave = bursts(400.0)
    moved = shifted(wave, RATE_HZ, factor)
    assert moved.shape == wave.shape
    assert moved.dtype == np.float32
    peak_hz = np.abs(np.fft.rfft(moved)).argmax() * RATE_HZ / len(moved)
    assert peak_hz == pytest.approx(400 * factor, rel=0.03)

    def loud(x: np.ndarray) -> np.ndarray:
        return np.convolve(np.abs(x), np.ones(320) / 320, "same") > 0.1

    edges = [np.flatnonzero(np.diff(loud(x).astype(int)) == 1) for x in (wave, moved)]
    assert len(edges[0]) == 5
    assert np.abs(edges[1] - edges[0][:, None]).min(axis=1).max() < 0.03 * RATE_HZ


def test_shifts_are_drawn_both_ways_and_never_hardly_any() -> None:
    drawn = np.array([shift_of(f"dialogue/{n}", 1) for n in range(500)])
    assert drawn.max() <= MOST
    assert drawn.min() >= 1 / MOST
    assert (np.abs(np.log(drawn)) >= LEAST_SHARE * np.log(MOST) - 1e-9).all()
    assert 0.4 < (drawn > 1).mean() < 0.6
    assert shift_of("a", 1) == shift_of("a", 1) != shift_of("a", 2)


def test_only_the_user_s_sound_and_the_name_change() -> None:
    both = np.stack((bursts(300.0), bursts(500.0)), axis=1)
    row = {"id": "dialogue/7", "audio": to_flac(both, RATE_HZ), "turns": [{"role": "user"}], "voice": "ravi"}
    made = other_voice(row, 2)
    assert {key: made[key] for key in ("turns", "voice")} == {key: row[key] for key in ("turns", "voice")}
    assert made["id"] == "dialogue/7~2"
    (was, _), (now, rate_hz) = read(row["audio"], "was"), read(made["audio"], "now")
    assert rate_hz == RATE_HZ
    np.testing.assert_allclose(now[:, AGENT], was[:, AGENT], atol=1e-4)  # rounded twice
    assert not np.allclose(now[:, USER], was[:, USER], atol=0.1)
    assert other_voice(row, 2) == made
