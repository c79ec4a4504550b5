import json
from pathlib import Path

import numpy as np
import soundfile

from paluku import audio
from paluku.corpus.demo import RATE_HZ, demo_question


def recorded(folder: Path, seconds: dict[str, float]) -> None:
    rows = []
    for number, (name, duration_s) in enumerate(seconds.items()):
        soundfile.write(folder / name, np.full(int(8000 * duration_s), 0.1 * (number + 1), np.float32), 8000)
        language = "te" if name.startswith("te") else "en"
        about = {"path": name, "source": "x", "speaker": "y", "licence": "z"}
        rows.append(about | {"language": language, "duration_s": duration_s})
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_a_telugu_recording_of_a_fitting_length_is_asked_first(tmp_path: Path) -> None:
    recorded(tmp_path, {"en.wav": 5.0, "te_short.wav": 1.0, "te_ok.wav": 4.0, "te_long.wav": 60.0})
    wave, rate_hz = audio.read(demo_question(tmp_path, tmp_path / "out" / "question.wav"))
    assert (rate_hz, len(wave)) == (RATE_HZ, 4 * RATE_HZ)
    np.testing.assert_allclose(wave[1000:-1000], 0.3, atol=1e-3)


def test_a_broken_recording_is_passed_over(tmp_path: Path) -> None:
    recorded(tmp_path, {"en.wav": 5.0, "te.wav": 4.0})
    (tmp_path / "te.wav").write_bytes(b"RIFF")
    wave, _ = audio.read(demo_question(tmp_path, tmp_path / "question.wav"))
    assert len(wave) == 5 * RATE_HZ


def test_without_recordings_the_question_is_spoken(tmp_path: Path) -> None:
    wave, rate_hz = audio.read(demo_question(None, tmp_path / "question.wav"))
    assert 1.5 < len(wave) / rate_hz < 4
    assert np.sqrt(np.square(wave).mean()) > 0.03
