"""Tokens of single recordings: the user speaks, nobody answers; by the same tasks as those of dialogues."""

from pathlib import Path

import numpy as np
import pytest

from paluku.audio import to_flac
from paluku.cluster.tokens import ExtractConfig, extract
from paluku.config import load, resolve
from paluku.corpus.shards import Manifest, ShardSet, write_manifest, write_shard
from paluku.errors import ConfigError, CorpusError
from paluku.tokens.text import default_tokenizer
from tests.fakes.bundle import tiny_codec
from tests.fakes.speech import speech_like
from tests.fakes.tasks import InOrder

CONFIG = Path(__file__).parents[2] / "jobs" / "configs" / "extract_tokens.malayalam.yaml"
TEXTS = {"train": ("ഒന്ന് രണ്ട്", None), "test": ("മൂന്ന്",)}


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "codec"
    tiny_codec(folder)
    return folder


def write_utterances(folder: Path, rate_hz: int = 16_000) -> Path:
    shards = []
    for split, texts in TEXTS.items():
        rows = [
            {
                "id": f"{split}-{number}",
                "audio": to_flac(speech_like(number, 1.0, rate_hz)[:, None], rate_hz),
                "sample_rate_hz": rate_hz,
                "text": text,
                "split": split,
            }
            for number, text in enumerate(texts)
        ]
        shards.append(write_shard(folder, "utterances", split, 0, rows))
    write_manifest(folder, Manifest(kind="utterances", config_sha256="0" * 64, shards=tuple(shards)))
    return folder


def test_every_utterance_becomes_a_row_and_names_its_corpus(tmp_path: Path, codec: Path) -> None:
    corpus = write_utterances(tmp_path / "corpus")
    config = load(
        ExtractConfig, CONFIG, [f"utterances={corpus}", f"codec={codec}", f"out={tmp_path / 'out'}"]
    )
    manifest = extract(config, InOrder()).manifest
    assert set(manifest.parents) == {"codec", "utterances", "tokenizer"}
    first, second = ShardSet(tmp_path / "out", "tokens", "train").rows([0, 1])
    assert default_tokenizer().decode(first["user_text"].tolist()) == " ഒന്ന് രണ്ട്"
    assert first["id"] == "train-0"
    assert not second["user_text"].any()
    assert len(np.unique(first["agent_codes"].reshape(8, -1)[0, 5:-5])) < len(np.unique(first["user_codes"]))
    assert manifest.rows("test") == 1


def test_another_rate_is_refused_with_what_to_set(tmp_path: Path, codec: Path) -> None:
    corpus = write_utterances(tmp_path / "corpus", 24_000)
    with pytest.raises(CorpusError, match=r"build the utterances with preparation\.sample_rate_hz=16000"):
        extract(ExtractConfig(utterances=str(corpus), codec=codec, out=str(tmp_path / "out")), InOrder())


@pytest.mark.parametrize("given", [{}, {"dialogues": "/d", "utterances": "/u"}])
def test_exactly_one_corpus_is_encoded(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="give one corpus to encode"):
        resolve(ExtractConfig, {"out": "/out", **given}, "the command line")
