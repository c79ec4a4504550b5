from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from paluku.corpus.dialogues import noises
from paluku.corpus.dialogues.augmentation import (
    Augmentation,
    Channels,
    Drawn,
    Echo,
    Heard,
    Noise,
    augmented,
    band_limited,
    draw,
)
from paluku.corpus.dialogues.rooms import draw_room, impulse_response, reverberant
from paluku.errors import CorpusError

RATE_HZ = 16_000
SECOND = RATE_HZ
QUIET = {"speed": 1.0, "level_dbfs": -25.0, "band": "full", "noise": None, "room": None, "echo": None}


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def dry() -> Channels:
    """A user in the first second, a reply in the third."""
    user, reply, speaking = (
        np.zeros(4 * SECOND, np.float32),
        np.zeros(4 * SECOND, np.float32),
        np.zeros(4 * SECOND, bool),
    )
    user[:SECOND], reply[2 * SECOND : 3 * SECOND], speaking[:SECOND] = tone(500), tone(700), True
    return Channels(user, reply, speaking)


def heard(channels: Channels, **changes: Any) -> Heard:
    babble = lambda: [tone(300), tone(350)]  # noqa: E731
    return augmented(
        channels, Drawn.model_validate(QUIET | changes), RATE_HZ, np.random.default_rng(0), babble
    )


def made(**changes: Any) -> np.ndarray:
    return heard(dry(), **changes).wave


def level_db(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wave, dtype=np.float64).mean() + 1e-20))


def test_nothing_drawn_changes_the_level_alone() -> None:
    wave = made()
    assert level_db(wave[:SECOND]) == pytest.approx(-25.0, abs=0.01)
    assert not wave[SECOND:].any()
    np.testing.assert_allclose(wave / wave[100], dry().user / dry().user[100], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["pink", "babble", "hum"])
def test_noise_lies_as_far_below_the_speech_as_was_drawn(kind: Any) -> None:
    wave = made(noise=Noise(kind=kind, snr_db=12.0))
    assert level_db(wave[SECOND:]) == pytest.approx(-37.0, abs=1.0)


def test_the_echo_is_the_reply_late_and_low() -> None:
    wave = made(echo=Echo(level_db=-20.0, delay_s=0.1))
    start = 2 * SECOND + round(0.1 * RATE_HZ)
    assert level_db(wave[start : start + SECOND]) == pytest.approx(-45.0, abs=0.1)
    assert not wave[SECOND:start].any()


def test_what_is_too_loud_is_turned_down_not_clipped_and_the_row_says_by_how_much() -> None:
    loud = heard(dry(), level_dbfs=3.0)
    assert np.abs(loud.wave).max() == pytest.approx(0.98, abs=1e-3)
    assert level_db(loud.wave[:SECOND]) == pytest.approx(3.0 + loud.gain_db, abs=0.01)
    assert heard(dry()).gain_db == 0


@pytest.mark.parametrize("band", ["full", "telephone", "4k"])
def test_levels_are_those_behind_the_line(band: Any) -> None:
    # Most of this voice lies below a telephone's band, and most of this reply above it.
    low, high = tone(100) + 0.2 * tone(1000), tone(6000) + 0.2 * tone(900)
    voices = dry()._replace(user=np.pad(low, (0, 3 * SECOND)), reply=np.pad(high, (2 * SECOND, SECOND)))
    speech = heard(voices, band=band).wave
    assert level_db(speech[:SECOND]) == pytest.approx(-25.0, abs=0.01)
    echo = heard(voices, band=band, echo=Echo(level_db=-20.0, delay_s=0.0)).wave - speech
    assert level_db(echo[2 * SECOND : 3 * SECOND]) == pytest.approx(-45.0, abs=0.1)
    noise = heard(voices, band=band, noise=Noise(kind="pink", snr_db=12.0)).wave - speech
    assert level_db(noise) == pytest.approx(-37.0, abs=0.1)


@pytest.mark.parametrize(
    ("band", "kept", "gone"),
    [("telephone", (500, 1000, 3000), (60, 5500)), ("4k", (100, 3000), (5500,)), ("full", (60, 7500), ())],
)
def test_a_line_passes_its_band_alone(band: Any, kept: tuple[int, ...], gone: tuple[int, ...]) -> None:
    for hz in kept:
        assert level_db(band_limited(tone(hz), band, RATE_HZ)[2000:]) > level_db(tone(hz)) - 3.5
    for hz in gone:
        assert level_db(band_limited(tone(hz), band, RATE_HZ)[2000:]) < level_db(tone(hz)) - 20


def test_a_band_above_the_rate_changes_nothing() -> None:
    np.testing.assert_array_equal(band_limited(tone(7000), "8k", RATE_HZ), tone(7000))


def test_what_may_happen_happens_as_often_as_stated() -> None:
    settings = Augmentation(
        noise_share=0.7, room_share=0.4, echo_share=0.2, bands={"telephone": 1, "full": 3}
    )
    random = np.random.default_rng(1)
    seen = Counter()
    for _ in range(1000):
        drawn = draw(settings, random)
        seen.update(name for name in ("noise", "room", "echo") if getattr(drawn, name) is not None)
        seen[drawn.band] += 1
        assert -35 <= drawn.level_dbfs <= -18
        assert 0.92 <= drawn.speed <= 1.08
    shares = {"noise": 0.7, "room": 0.4, "echo": 0.2, "telephone": 0.25, "full": 0.75}
    assert {name: seen[name] / 1000 for name in shares} == pytest.approx(shares, abs=0.05)


@pytest.mark.parametrize("rt60_s", [0.2, 0.4, 0.6])
def test_a_room_rings_as_long_as_was_asked(rt60_s: float) -> None:
    times = []
    for seed in range(6):
        room = draw_room(rt60_s, 1.0, np.random.default_rng(seed))
        response = impulse_response(room, RATE_HZ)
        assert response[0] == pytest.approx(1.0)
        # Schroeder 1965: the energy that is still to come, from -5 to -20 dB, drawn out to 60 dB.
        left = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
        decay = 10 * np.log10(left / left[0] + 1e-12)
        first, last = (int(np.argmax(decay <= level)) for level in (-5, -20))
        times.append((last - first) / RATE_HZ * 60 / 15)
    assert 0.5 * rt60_s < np.median(times) < 1.8 * rt60_s


def test_the_microphone_is_in_the_room_and_apart_from_the_mouth() -> None:
    for seed in range(50):
        room = draw_room(0.15 + 0.01 * seed, 2.0, np.random.default_rng(seed))
        for place in (room.mouth_m, room.microphone_m):
            assert all(0 < at < side for at, side in zip(place, room.size_m, strict=True))
        assert np.linalg.norm(np.subtract(room.mouth_m, room.microphone_m)) >= 0.09


def test_a_room_delays_nothing() -> None:
    click = np.zeros(SECOND, np.float32)
    click[1000] = 1.0
    wave = reverberant(click, impulse_response(draw_room(0.3, 1.0, np.random.default_rng(2)), RATE_HZ))
    assert not np.abs(wave[:990]).max() > 1e-6
    assert abs(wave[1000]) > 0.9


def test_pink_noise_falls_by_three_decibels_an_octave() -> None:
    spectrum = np.square(np.abs(np.fft.rfft(noises.pink(1 << 17, np.random.default_rng(0)))))
    octaves = [10 * np.log10(spectrum[2**k : 2 ** (k + 1)].mean()) for k in range(11, 16)]
    assert np.diff(octaves) == pytest.approx(-3.0, abs=0.5)


def test_hum_is_the_mains_and_its_harmonics() -> None:
    spectrum = np.abs(np.fft.rfft(noises.hum(SECOND, RATE_HZ, np.random.default_rng(0))))
    assert sorted(np.argsort(spectrum)[-9:]) == list(range(50, 500, 50))


def test_recorded_noise_is_read_and_repeated(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "street.wav", tone(440, 0.5), RATE_HZ)
    settings = Augmentation(noise_share=1.0, noises={"recorded": 1.0}, noise_folder=tmp_path)
    drawn = draw(settings, np.random.default_rng(0))
    assert drawn.noise is not None
    assert drawn.noise.file == "street.wav"
    plain = drawn.model_copy(update={"room": None, "echo": None, "band": "full"})
    wave = augmented(dry(), plain, RATE_HZ, np.random.default_rng(0), list, tmp_path).wave
    assert int(np.argmax(np.abs(np.fft.rfft(wave[3 * SECOND :])))) == 440


def test_a_folder_without_noises_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no recordings of noise"):
        noises.noise_files(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"snr_db": (20, 5)}, "snr_db"),
        ({"speed": (0.1, 1)}, "speed"),
        ({"bands": {"full": 0}}, "bands needs weights"),
        ({"noises": {"recorded": 1}}, "set noise_folder"),
        ({"rt60_s": (0.01, 0.2)}, "rt60_s"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Augmentation.model_validate(settings)
