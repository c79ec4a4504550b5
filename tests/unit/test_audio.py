from pathlib import Path

import numpy as np
import pytest
import soundfile

from paluku import audio
from paluku.errors import AudioError


def tone(rate_hz: int, tone_hz: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * tone_hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(
        np.float32
    )


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_a_tone_stays_itself_at_another_rate(rate_hz: int) -> None:
    resampled = audio.resample(tone(rate_hz), rate_hz, 16_000)
    inside = slice(800, -800)  # the filter's edges are not the tone's
    assert np.abs(resampled[inside] - tone(16_000)[: len(resampled)][inside]).max() < 1e-3


def test_what_lies_above_nyquist_does_not_fold_back() -> None:
    aliased = audio.resample(tone(48_000, tone_hz=12_000), 48_000, 16_000)
    assert np.sqrt(np.mean(aliased[800:-800] ** 2)) < 1e-4


def test_stereo_is_averaged(tmp_path: Path) -> None:
    left = tone(16_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, -left], axis=1), 16_000)
    assert np.abs(audio.read_mono(tmp_path / "stereo.wav", 16_000)).max() < 1e-4


def test_pcm16_is_symmetric_and_clips() -> None:
    assert audio.to_pcm16(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [-32767, -32767, 0, 32767, 32767]
    assert audio.from_pcm16(np.array([-32767, 32767], np.int16)).tolist() == [-1.0, 1.0]


def test_flac_keeps_16_bits() -> None:
    wave = tone(16_000)
    back, rate_hz = audio.read(audio.to_flac(wave, 16_000))
    assert rate_hz == 16_000
    # libsndfile scales int16 by 1/32768, we by 1/32767
    assert np.abs(back[:, 0] - wave).max() < 1.5 / 32767


def test_unusable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF but no more")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    soundfile.write(tmp_path / "slow.wav", np.zeros(100, np.float32), 4_000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    for name, says in {
        "absent.wav": "does not exist",
        "broken.wav": "cannot be decoded",
        "empty.wav": "no samples",
        "slow.wav": "4000 Hz",
        "nan.wav": "NaN",
    }.items():
        with pytest.raises(AudioError, match=rf"{name}.*{says}"):
            audio.read(tmp_path / name)


def test_a_wave_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "reply.wav").mkdir()
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write_wav(tmp_path / "reply.wav", tone(16_000), 16_000)
    assert [p.name for p in tmp_path.iterdir()] == ["reply.wav"]
