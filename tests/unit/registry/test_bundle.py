import shutil
from pathlib import Path

import pytest
import torch

from paluku.errors import CheckpointError
from paluku.registry import codecs
from paluku.registry import models as models_registry
from paluku.registry.bundle import (
    load_codec,
    load_s2s,
    load_tokenizer,
    open_bundle,
    read_bundle,
    verify_bundle,
    write_bundle,
)
from paluku.registry.codecs import load_codec as load_codec_folder
from paluku.tokens.text import default_tokenizer
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
    write_bundle(bundle, codec, s2s, default_tokenizer())
    assert not list(bundle.rglob("training.pt"))


def test_an_s2s_model_needs_the_codec_it_was_trained_with(bundle: Path) -> None:
    other = bundle.with_name("other")
    tiny_codec(other, seed=1)
    with pytest.raises(CheckpointError, match="was trained with codec"):
        write_bundle(bundle, other, bundle.with_name("s2s"), default_tokenizer())


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


@pytest.fixture
def shipped(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's models/."""
    models = bundle.parent
    monkeypatch.setattr(codecs, "SHIPPED", models / "codec")
    monkeypatch.setattr(models_registry, "SHIPPED", models / "s2s")
    return models


def test_the_default_bundle_is_made_of_what_is_shipped_once(shipped: Path, tmp_path: Path) -> None:
    folder = open_bundle("default", tmp_path / "cache")
    assert read_bundle(folder) == read_bundle(shipped / "bundle")
    made = (folder / "bundle.json").stat().st_ino
    assert open_bundle(cache=tmp_path / "cache") == folder
    assert (folder / "bundle.json").stat().st_ino == made
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name], "nothing is left behind"


def test_another_shipped_model_is_another_default(shipped: Path, tmp_path: Path) -> None:
    first = open_bundle(cache=tmp_path / "cache")
    tiny_s2s(shipped / "s2s", read_bundle(first).codec, seed=1)
    assert open_bundle(cache=tmp_path / "cache") != first


@pytest.mark.parametrize(
    "damaged", ["s2s/model.safetensors", "codec/card.json", "tokenizer.json", "bundle.json"]
)
def test_a_damaged_default_is_made_again(shipped: Path, tmp_path: Path, damaged: str) -> None:
    folder = open_bundle(cache=tmp_path / "cache")
    (folder / damaged).write_bytes(b"damaged")
    assert open_bundle(cache=tmp_path / "cache") == folder
    verify_bundle(folder)


def test_where_no_s2s_model_is_shipped_that_is_said(shipped: Path, tmp_path: Path) -> None:
    shutil.rmtree(shipped / "s2s")
    with pytest.raises(CheckpointError, match=r"s2s is missing: .*train one \(jobs/train_s2s\.py"):
        open_bundle(cache=tmp_path / "cache")


def test_a_shipped_model_of_other_codes_is_no_default(shipped: Path, tmp_path: Path) -> None:
    tiny_codec(shipped / "codec", seed=1)
    with pytest.raises(CheckpointError, match="was trained with codec"):
        open_bundle(cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_folder_is_its_own_bundle_once_it_is_checked(bundle: Path) -> None:
    assert open_bundle(str(bundle)) == bundle
    with pytest.raises(CheckpointError, match="it is no bundle"):
        open_bundle(str(bundle.parent))
