"""The job itself, as a user starts it, on a real Ray cluster."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from paluku.cluster import corpus
from paluku.cluster.local import LocalRay
from paluku.config import load
from paluku.corpus.config import CorpusConfig
from paluku.corpus.shards import ShardSet, read_manifest
from paluku.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "jobs/configs/build_corpus.demo.yaml"


def build(ray: LocalRay, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.build_corpus", CONFIG, f"out={out}", *overrides]
    return subprocess.run(command, cwd=ROOT, env=ray.env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve speakers, one file broken."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(12):
        samples = 0.1 * np.random.default_rng(number).standard_normal(22_050)
        (folder / f"speaker-{number}").mkdir()
        soundfile.write(folder / f"speaker-{number}" / "a.flac", samples.astype(np.float32), 22_050)
    (folder / "speaker-3" / "broken.flac").write_bytes(b"fLaC and nothing more")
    return folder


@pytest.mark.ray
def test_two_builds_are_equal_and_name_what_they_left_out(
    local_ray: LocalRay, recordings: Path, tmp_path: Path
) -> None:
    small = (f"recordings={recordings}", "spoken_utterances=20", "dialogues=20", "rows_per_shard=6")
    reports = []
    for name in ("one", "two"):
        done = build(local_ray, tmp_path / name, *small)
        assert done.returncode == 0, done.stderr
        reports.append(json.loads(done.stdout.splitlines()[-1]))
    for kind in ("utterances", "dialogues"):
        assert reports[0][f"{kind}_hash"] == reports[1][f"{kind}_hash"]
        assert read_manifest(tmp_path / "one" / kind) == read_manifest(tmp_path / "two" / kind)
    utterances = tmp_path / "one" / "utterances"
    manifest = read_manifest(utterances, "utterances")
    assert manifest.rejects == {"broken": 1}
    assert manifest.rows() == 12 + 20
    assert len(manifest.shards) > 3
    (reject,) = pq.read_table(utterances / "rejects.parquet").to_pylist()
    assert (reject["id"], reject["reason"]) == ("speaker-3/broken.flac", "broken")
    for split in ("train", "dev", "test"):
        ShardSet(utterances, "utterances", split).verify()
    assert read_manifest(tmp_path / "one" / "dialogues", "dialogues").rows() == 20


@pytest.mark.ray
def test_too_many_rejects_fail_in_one_line_and_leave_the_old_corpus(
    local_ray: LocalRay, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "utterances").mkdir()
    (tmp_path / "utterances" / "manifest.json").write_text("an earlier corpus")
    done = build(
        local_ray, tmp_path, f"recordings={recordings}", "spoken_utterances=0", "max_reject_share=0.01"
    )
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: 1 of 13 utterances were rejected: 1 broken; max_reject_share allows 1%")
    assert "speaker-3/broken.flac" in error
    assert [path.name for path in tmp_path.iterdir()] == ["utterances"]
    assert (tmp_path / "utterances" / "manifest.json").read_text() == "an earlier corpus"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should go")
    settings = [f"out={tmp_path / 'file'}", f"turns={ROOT / 'jobs/configs/demo_turns.tsv'}"]
    with pytest.raises(StorageError, match=r"file/utterances cannot be written"):
        corpus.build(load(CorpusConfig, ROOT / CONFIG, settings))
