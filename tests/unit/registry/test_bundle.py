import shutil
from pathlib import Path

import pytest
import torch

from paluku.errors import CheckpointError
from paluku.registry.bundle import load_codec, load_s2s, load_tokenizer, read_bundle, write_bundle
from paluku.registry.codecs import load_codec as load_codec_folder
from paluku.tokens.text import CharTokenizer
from tests.fakes.bundle import tiny_bundle, tiny_codec, tiny_s2s


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path)


def test_its_parts_are_the_models_that_went_in(bundle: Path) -> None:
    saved = load_codec_folder(bundle.with_name("codec"))[1]
    codes = torch.arange(3 * saved.num_codebooks).view(1, saved.num_codebooks, 3)
    assert torch.equal(load_codec(bundle).decode(codes), saved.decode(codes))
    assert not load_s2s(bundle).training
    assert load_tokenizer(bundle).digest() == read_bundle(bundle).tokenizer


def test_optimiser_state_is_not_served(bundle: Path) -> None:
    codec, s2s = bundle.with_name("codec"), bundle.with_name("s2s")
    (codec / "training.pt").write_bytes(b"large")
    write_bundle(bundle, codec, s2s, CharTokenizer())
    assert not list(bundle.rglob("training.pt"))


def test_an_s2s_model_needs_the_codec_it_was_trained_with(bundle: Path) -> None:
    other = bundle.with_name("other")
    tiny_codec(other, seed=1)
    with pytest.raises(CheckpointError, match="was trained with codec"):
        write_bundle(bundle, other, bundle.with_name("s2s"), CharTokenizer())


def test_an_exchanged_part_is_named(bundle: Path) -> None:
    tiny_s2s(bundle / "s2s", read_bundle(bundle).codec, seed=1)
    with pytest.raises(CheckpointError, match="its s2s is not the one"):
        read_bundle(bundle)


def test_a_missing_part_is_named(bundle: Path) -> None:
    shutil.rmtree(bundle / "codec")
    with pytest.raises(CheckpointError, match=r"codec holds no card\.json"):
        load_codec(bundle)
    with pytest.raises(CheckpointError, match="it is no bundle"):
        read_bundle(bundle.parent)
