"""Every adapter's docstring has an example that is read here, and every one implements the port."""

import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from paluku.config import Config, load
from paluku.corpus.sources.config import SourceConfig, open_source
from paluku.corpus.sources.port import Source
from paluku.errors import ConfigError

# Pytest puts `platform/` on its own path only.
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
KINDS = ("slr66", "indictts", "common_voice", "librispeech", "vctk", "ljspeech", "folder", "manifest")


class Sources(Config):
    sources: tuple[SourceConfig, ...]


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_each_kind_is_a_valid_configuration(kind: str, tmp_path: Path) -> None:
    text = importlib.import_module(f"paluku.corpus.sources.{kind}").__doc__ or ""
    example = text[text.index("    sources:") :].split("\n\n")[0]
    (tmp_path / "a.yaml").write_text(textwrap.dedent(example))
    found = load(Sources, tmp_path / "a.yaml").sources
    assert {config.kind for config in found} == {kind}
    for config in found:
        source = open_source(config)
        assert isinstance(source, Source)
        assert source.name
        assert source.licence


def test_the_union_knows_no_other_kinds(tmp_path: Path) -> None:
    kinds = {
        definition["properties"]["kind"]["const"]
        for definition in TypeAdapter(SourceConfig).json_schema()["$defs"].values()
        if "kind" in definition["properties"]
    }
    assert kinds >= {*KINDS, "spoken"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"sources": [{"kind": "slr67", "folder": "/x"}]}))
    with pytest.raises(ConfigError, match="slr67"):
        load(Sources, tmp_path / "a.yaml")


def test_sentences_are_a_source_like_any_other() -> None:
    config = TypeAdapter(SourceConfig).validate_python({"kind": "spoken", "count": 3})
    source = open_source(config)
    assert isinstance(source, Source)
    assert len(list(source.iterate())) == 3


def test_listing_needs_none_of_the_heavy_libraries() -> None:
    heavy = {"datasets", "torch", "ray", "transformers"}
    code = f"import sys, paluku.corpus.sources.config; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENV)
    assert done.stdout.split() == []
