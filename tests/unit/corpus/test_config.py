"""The settings of `jobs/build_corpus.py`, and the files that ship with it."""

from pathlib import Path

import pytest

from paluku.config import load
from paluku.corpus.config import CorpusConfig
from paluku.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[3] / "jobs" / "configs"
FOLDER = "sources=[{kind: folder, folder: /speech}]"


def config(*overrides: str, name: str = "speech") -> CorpusConfig:
    return load(CorpusConfig, CONFIGS / f"build_corpus.{name}.yaml", ["out=/corpus", *overrides])


@pytest.mark.parametrize("name", ["demo", "speech", "telugu"])
def test_every_shipped_configuration_loads(name: str) -> None:
    assert config("recordings=/speech", name=name).all_sources[-1].kind == "folder"


def test_telugu_has_every_free_corpus() -> None:
    assert [source.kind for source in config(name="telugu").sources] == ["slr66", "indictts", "common_voice"]


def test_nothing_to_build_from_is_said() -> None:
    with pytest.raises(ConfigError, match="give sources, or recordings=FOLDER"):
        config()


def test_a_relative_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="corpus must be absolute, or a URI"):
        config(FOLDER, "out=corpus")
    assert config(FOLDER, "out=s3://bucket/corpus").out == "s3://bucket/corpus"


@pytest.mark.parametrize(
    "other", ["out=/elsewhere", "cpus_per_task=2", "max_reject_share=1", "part_minutes=1", "overwrite=true"]
)
def test_where_and_how_fast_is_no_part_of_the_recipe(other: str) -> None:
    assert config(FOLDER, other).recipe_sha256() == config(FOLDER).recipe_sha256()


@pytest.mark.parametrize(
    "other",
    ["seed=1", "shard_mb=1", "shares.dev=0.3", "recordings=/more", "preparation.sample_rate_hz=24000"],
)
def test_what_is_in_the_corpus_is(other: str) -> None:
    assert config(FOLDER, other).recipe_sha256() != config(FOLDER).recipe_sha256()


def test_a_recipe_keeps_no_keys() -> None:
    with_keys = config("sources=[{kind: folder, folder: 's3://AKEY:secret@speech/te?region=ap-south-1'}]")
    assert "secret" not in str(with_keys.recipe)
    assert with_keys.recipe["sources"][0]["folder"] == "s3://speech/te"
    assert "secret" in with_keys.model_dump_json()
