"""Speaker models: opened, enrolled into, and asked for the vector of a recording."""

from pathlib import Path

import numpy as np
import pytest
import torch

from paluku.audio import resample
from paluku.errors import AudioError, CheckpointError
from paluku.registry.artefact import write_model
from paluku.registry.speakers import enrolled, open_speakers, speaker_vector, speech_s, with_voices
from paluku.speakers.encoder import SpeakerEncoder
from paluku.voices import VOICES
from tests.fakes.speakers import RATE_HZ, TINY_ENCODER, voice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    found = tmp_path_factory.mktemp("models") / "speakers"
    found.mkdir()
    write_model(found, "speakers", TINY_ENCODER, SpeakerEncoder(TINY_ENCODER).state_dict(), step=3)
    return found


def test_voices_are_kept_in_the_model(folder: Path, tmp_path: Path) -> None:
    before = open_speakers(str(folder))
    with pytest.raises(CheckpointError, match="has no vector of arjun, ravi, priya, lakshmi; enrol"):
        before.reply_voices()
    vectors = torch.nn.functional.normalize(torch.randn(4, 12), dim=-1)
    with_voices(folder, dict(zip(VOICES, vectors, strict=True)), tmp_path / "enrolled")
    after = open_speakers(str(tmp_path / "enrolled"))
    assert torch.equal(after.reply_voices(), vectors)
    assert after.card.step == 3
    assert after.card.hash != before.card.hash
    wave = voice(1, 0, 2.0)
    ask = [speaker_vector(found.encoder, wave, RATE_HZ) for found in (before, after)]
    assert torch.equal(*ask)


def test_a_voice_is_the_mean_of_its_recordings() -> None:
    found = enrolled([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
    torch.testing.assert_close(found, torch.full((2,), 0.5**0.5))


def test_a_recording_at_another_rate_is_the_same_person(folder: Path) -> None:
    encoder = open_speakers(str(folder)).encoder
    wave = voice(2, 0, 3.0)
    at_rate, at_twice = (
        speaker_vector(encoder, resample(wave, RATE_HZ, r), r) for r in (RATE_HZ, 2 * RATE_HZ)
    )
    assert at_rate @ at_twice > 0.99


def test_too_little_speech_is_refused(folder: Path) -> None:
    encoder = open_speakers(str(folder)).encoder
    wave = np.concatenate((voice(1, 0, 0.6), np.zeros(4 * RATE_HZ, np.float32)))
    with pytest.raises(AudioError, match=r"my\.wav has 0\.\d s of speech; give at least 1 s, better 5 s"):
        speaker_vector(encoder, wave, RATE_HZ, "my.wav")
    with pytest.raises(AudioError, match=r"has 0\.0 s of speech"):
        speaker_vector(encoder, np.zeros(0, np.float32), RATE_HZ)
    with pytest.raises(AudioError, match="holds NaN"):
        speaker_vector(encoder, np.full(RATE_HZ, np.nan, np.float32), RATE_HZ)


def test_pauses_are_no_speech() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    wave = np.concatenate((noise, 1e-3 * noise, noise[:4_000]))
    assert speech_s(wave, 8_000) == pytest.approx(1.5)


def test_what_is_no_speakers_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no speakers model 'nobody'; give default"):
        open_speakers("nobody")
    with pytest.raises(CheckpointError, match="is no model folder"):
        open_speakers(str(tmp_path))


def test_the_shipped_model_knows_the_four_voices() -> None:
    """Each is a person of his own: no two are as near as his own recordings (.96)."""
    shipped = open_speakers()
    voices = shipped.reply_voices()
    assert voices.shape == (len(VOICES), shipped.encoder.dim) == (4, 192)
    torch.testing.assert_close(voices.norm(dim=-1), torch.ones(4))
    assert (voices @ voices.T).fill_diagonal_(0).max() < 0.95
