"""Dialogues of another language need turns, a cast and a few words of timing: settings, no code."""

import itertools
from pathlib import Path

import pytest

from paluku.config import load
from paluku.corpus.dialogues.plans import DialoguesConfig, plan_shards, read_texts
from paluku.corpus.dialogues.shards import Making, make_shard
from paluku.corpus.shards import Manifest, ShardSet, write_manifest
from paluku.corpus.voices.cast import Cast, CastConfig

ROOT = Path(__file__).parents[4]


def test_both_sides_speak_malayalam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # its paths are below the repository, where jobs run
    settings = ["jobs/configs/build_dialogues.malayalam.yaml"]
    shares = ["shares.dev=0", "shares.test=0.9", "dialogues=4", "rows_per_shard=4", f"out={tmp_path}"]
    config = load(DialoguesConfig, *settings, shares)
    cast = Cast(load(CastConfig, config.cast))
    assert cast.config.espeak.language == "ml"
    plans = plan_shards(config, read_texts(config), cast)
    made = [make_shard(plan, tmp_path, cast, Making(rendering=config.rendering)) for plan in plans]
    shards = tuple(outcome.shard for outcome in made if outcome.shard is not None)
    assert not any(outcome.rejects for outcome in made)
    write_manifest(tmp_path, Manifest(kind="dialogues", config_sha256="0" * 64, shards=shards))
    splits = {shard.split: shard.rows for shard in shards}
    rows = [
        row
        for split, count in splits.items()
        for row in ShardSet(tmp_path, "dialogues", split).rows(range(count))
    ]
    assert len(rows) == config.dialogues
    texts = list(itertools.chain(*([turn["text"] for turn in row["turns"]] for row in rows)))
    assert all(not set(text) & {chr(code) for code in range(0x0C00, 0x0C80)} for text in texts)
    assert any(set(text) & {chr(code) for code in range(0x0D00, 0x0D80)} for text in texts)
