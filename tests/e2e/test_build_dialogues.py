"""`jobs.build_dialogues` as a user starts it, on a few intents, with voices that pip installs."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from paluku.audio import read
from paluku.cluster.local import LocalRay
from paluku.config import load
from paluku.corpus.dialogues.plans import DialoguesConfig
from paluku.corpus.shards import SPLITS, ShardSet, read_manifest
from paluku.corpus.voices.cast import CastConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "jobs/configs").glob("build_dialogues.*.yaml"))
SHEET = """\
# licence: CC0-1.0
intent	topic	role	text	style	held_out	provenance	reviewed
greetings.hello	greetings	ask	నమస్కారం	-	no	test	no
greetings.hello	greetings	ask	హలో	-	yes	test	no
greetings.hello	greetings	reply	నమస్కారం, చెప్పండి.	happy	no	test	no
time.now	time	ask	ఇప్పుడు సమయం ఎంత?	-	no	test	no
time.now	time	ask	టైమ్ ఎంత అయింది?	-	yes	test	no
time.now	time	reply	ఇప్పుడు ఐదు గంటలు అయింది, కొంచెం ఆగండి.	neutral	no	test	no
thanks.much	thanks	ask	చాలా ధన్యవాదాలు	-	no	test	no
thanks.much	thanks	reply	పర్వాలేదు, మళ్ళీ కలుద్దాం.	happy	no	test	no
"""
HELD_OUT = {"హలో", "టైమ్ ఎంత అయింది?"}


def run(ray: LocalRay, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "jobs.build_dialogues", "jobs/configs/build_dialogues.demo.yaml"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=ray.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.ray
def test_a_few_intents_become_dialogues(local_ray: LocalRay, tmp_path: Path) -> None:
    sheet, out = tmp_path / "turns.tsv", tmp_path / "dialogues"
    sheet.write_text(SHEET, encoding="utf-8")
    overrides = [f"out={out}", f"intents=[{sheet}]", "dialogues=24", "rows_per_shard=8"]
    overrides += ["shares.dev=0.2", "shares.test=0.3"]
    planned = json.loads(run(local_ray, *overrides, "--dry-run")[-1])
    assert planned["dialogues"] == 24
    assert not out.exists(), "a dry run writes nothing"
    report = json.loads(run(local_ray, *overrides)[-1])
    manifest = read_manifest(out, "dialogues")
    assert report == {
        "dialogues": str(out),
        "dialogues_hash": manifest.hash,
        "hours": round(sum(manifest.hours.values()), 3),
    }
    users: dict[str, set[str]] = {}
    kinds: Counter[str] = Counter()
    for split in SPLITS:
        shards = ShardSet(out, "dialogues", split)
        shards.verify()
        for row in shards.rows(range(len(shards))):
            users.setdefault(split, set()).add(row["user_voice"])
            kinds.update(turn["kind"] for turn in row["turns"])
            check(row)
            asked = {
                turn["text"] for turn in row["turns"] if turn["kind"] == "turn" and turn["role"] == "user"
            }
            assert not asked & HELD_OUT or split == "test"
    assert users["test"] <= set(CastConfig().held_out)
    assert not users["train"] & (users["dev"] | users["test"])
    assert kinds == manifest.breakdown["kind_count"]
    assert manifest.licences == {"turns": "CC0-1.0"}


def check(row: dict) -> None:
    wave, rate_hz = read(row["audio"])
    assert (wave.shape, rate_hz) == ((row["num_samples"], 2), 16_000)
    assert np.abs(wave).max(axis=0).min() > 0.001
    assert json.loads(row["augmentation"])["speed"] > 0
    for turn in row["turns"]:
        edges = [edge for word in turn["words"] for edge in (word["start_s"], word["end_s"])]
        assert (inside := [turn["start_s"], *edges, turn["end_s"]]) == sorted(inside)
        assert turn["end_s"] <= len(wave) / rate_hz
        assert turn["words"] or turn["kind"] == "cut"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_load_with_their_casts(path: Path) -> None:
    config = load(DialoguesConfig, path, ["out=/somewhere"])
    assert load(CastConfig, ROOT / config.cast).users
