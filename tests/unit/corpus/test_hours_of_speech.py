from pathlib import Path

import numpy as np
import pytest
import soundfile

from paluku.corpus.hours_of_speech import RATE_HZ, RECORDING_S, write_hours
from paluku.errors import CorpusError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(2):
        wave = np.random.default_rng(number).uniform(-0.5, 0.5, 16_000)
        (tmp_path / "data").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "data" / f"{number}.flac", wave, 8_000)
    return tmp_path / "data"


def test_there_are_the_hours_asked_for_and_no_two_files_alike(data: Path, tmp_path: Path) -> None:
    hours = write_hours(tmp_path / "out", 0.1, 0, data)
    files = sorted((tmp_path / "out").rglob("*.flac"))
    lengths_s = [soundfile.info(file).duration for file in files]
    assert sum(lengths_s) / 3600 == pytest.approx(hours)
    assert 0.1 <= hours <= 0.1 + RECORDING_S[1] / 3600
    assert {soundfile.info(file).samplerate for file in files} == {RATE_HZ}
    assert len({file.read_bytes() for file in files}) == len(files) > 1


def test_a_seed_gives_the_same_files_again(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_hours(tmp_path / name, 0.002, seed, data)
    a, b, c = ([f.read_bytes() for f in sorted((tmp_path / n).rglob("*.flac"))] for n in "abc")
    assert a == b
    assert a != c


def test_a_folder_without_audio_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no WAV, FLAC, OGG or MP3 files"):
        write_hours(tmp_path / "out", 0.1, 0, tmp_path)
