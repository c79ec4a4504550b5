"""The real engine and the library's own loading, on a model of random weights."""

import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paluku.corpus.voices.port import Engine, Prosody
from paluku.corpus.voices.vits import Vits, VitsConfig
from paluku.errors import AudioError, ConfigError, ServiceError
from paluku.torchaudio_cpu import prepare_torchaudio
from paluku.vits_worker import Speaker, serve

pytest.importorskip("transformers", reason="needs pip's transformers")

SENTENCE = "అమ్మ, నాన్న ఇంట్లో ఉన్నారు."
LETTERS = "అమ్నాఇంటలోఉరు "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `save_pretrained` writes: a tiny VITS of two speakers."""
    import torch

    prepare_torchaudio()
    from transformers import VitsConfig as ModelConfig
    from transformers import VitsModel, VitsTokenizer

    place = tmp_path_factory.mktemp("vits")
    letters = ["<pad>", *sorted(set(LETTERS)), "<unk>"]
    (place / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    tokenizer = VitsTokenizer(
        str(place / "vocab.json"), pad_token="<pad>", unk_token="<unk>", language="tel", phonemize=False
    )
    tokenizer.save_pretrained(place)
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
        flow_size=16, spectrogram_bins=9, upsample_initial_channel=16, upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
        prior_encoder_num_flows=1, prior_encoder_num_wavenet_layers=1, posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1, depth_separable_num_layers=1, depth_separable_channels=2,
        num_speakers=2, speaker_embedding_size=8, sampling_rate=16_000,
    )  # fmt: skip
    model = VitsModel(config)
    model.decoder.conv_post.weight.data *= 30  # random weights whisper
    model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Vits]:
    engine = Vits(VitsConfig(model=str(folder), speakers=2))
    yield engine
    engine.close()


def test_it_fits_the_port_and_its_words_are_estimates(engine: Vits) -> None:
    assert isinstance(engine, Engine)
    assert engine.voices == ("0", "1")
    speech = engine.speak(SENTENCE, "0", Prosody())
    assert speech.rate_hz == 16_000
    assert speech.wave.dtype == np.float32
    assert not speech.is_timed
    assert " ".join(word.text for word in speech.words) == SENTENCE


def test_the_noise_is_drawn_anew_from_the_seed_for_each_sentence(engine: Vits, folder: Path) -> None:
    first = engine.speak(SENTENCE, "0", Prosody()).wave
    engine.speak("అమ్మ", "1", Prosody(rate=1.4))
    np.testing.assert_array_equal(engine.speak(SENTENCE, "0", Prosody()).wave, first)
    other = Vits(VitsConfig(model=str(folder), speakers=2, seed=1))
    reseeded = other.speak(SENTENCE, "0", Prosody()).wave
    other.close()
    assert len(reseeded) != len(first) or not np.array_equal(reseeded, first)


def test_speakers_and_prosody_are_heard(engine: Vits) -> None:
    usual = engine.speak(SENTENCE, "0", Prosody()).wave
    assert not np.array_equal(engine.speak(SENTENCE, "1", Prosody()).wave, usual)
    assert len(engine.speak(SENTENCE, "0", Prosody(rate=0.5)).wave) > 1.3 * len(usual)
    assert not np.array_equal(engine.speak(SENTENCE, "0", Prosody(pitch_semitones=3)).wave, usual)


@pytest.mark.parametrize("text", ["hello", "", "..."])
def test_a_text_without_letters_of_the_model_is_refused(engine: Vits, text: str) -> None:
    with pytest.raises(AudioError, match=r"letters"):
        engine.speak(text, "0", Prosody())


class Choking(Speaker):
    """Fails on a text as torch does; says the others."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    @property
    def described(self) -> dict[str, int]:
        return {"rate_hz": 16_000, "speakers": 1}

    def speak(self, request: dict[str, Any]) -> np.ndarray:
        if request["text"] == "ఊ":
            raise self._failure
        return np.full(2, 0.5, np.float32)


@pytest.mark.parametrize("failure", [RuntimeError, ValueError, IndexError])
def test_a_text_that_the_model_fails_on_is_answered_and_so_is_the_next(
    failure: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "".join(json.dumps({"text": text}) + "\n" for text in ("ఊ", "అమ్మ"))
    monkeypatch.setattr("sys.stdin", io.StringIO(asked))
    out = io.BytesIO()
    serve(Choking(failure("kernel size\ncan't be greater")), out)
    _, failed, header, body = out.getvalue().split(b"\n", 3)
    assert json.loads(failed) == {
        "error": "the model fails on 'ఊ' (kernel size can't be greater); write it in other words"
    }
    assert json.loads(header) == {"samples": 2, "rate_hz": 16_000}
    assert np.frombuffer(body, np.float32).tolist() == [0.5, 0.5]


def test_a_process_that_ends_within_a_wave_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "paluku"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "vits_worker.py").write_text(
        "import sys\n"
        'print(\'{"rate_hz": 16000, "speakers": 1}\', flush=True)\n'
        "sys.stdin.readline()\n"
        "print('{\"rate_hz\": 16000, \"samples\": 1000}' + chr(10) + 'x' * 100, end='', flush=True)\n"
        "sys.exit('Killed')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    engine = Vits()
    with pytest.raises(ServiceError, match=r"has ended \(Killed\); check its memory"):
        engine.speak(SENTENCE, "0", Prosody())
    engine.close()


def test_an_unknown_speaker_is_refused(engine: Vits) -> None:
    with pytest.raises(ConfigError, match=r"no voice '2'; choose one of: 0, 1"):
        engine.speak(SENTENCE, "2", Prosody())


def test_a_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ServiceError, match=r"cannot be loaded .*; set vits.model to a folder with its weights"
    ):
        Vits(VitsConfig(model=str(tmp_path))).speak(SENTENCE, "0", Prosody())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ServiceError, match=r"run: pip install transformers"):
        Vits()
