"""The job as a user starts it: plan, build, and what its readers find."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paluku.audio import read
from paluku.cluster.local import LocalRay
from paluku.corpus.shards import ShardSet, read_manifest
from tests.fakes.speech_folder import write_speech

ROOT = Path(__file__).resolve().parents[2]
DEMO = "jobs/configs/build_corpus.demo.yaml"


def job(ray: LocalRay, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.build_corpus", *arguments]
    return subprocess.run(command, cwd=ROOT, env=ray.env, capture_output=True, text=True, check=False)


@pytest.mark.ray
def test_a_tiny_corpus_from_plan_to_rows(local_ray: LocalRay, tmp_path: Path) -> None:
    recordings, out = write_speech(tmp_path / "speech"), tmp_path / "corpus"
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("నమస్తే\nధన్యవాదాలు, మళ్ళీ కలుద్దాం\n")
    spoken = f"sources=[{{kind: spoken, count: 12, texts: [{sentences}]}}]"
    settings = (DEMO, f"out={out}", f"recordings={recordings}", spoken)

    planned = job(local_ray, *settings, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout.splitlines()[-1])
    assert plan["items"] == 12 + 18
    assert not out.exists()

    done = job(local_ray, *settings)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    manifest = read_manifest(out, "utterances")
    assert said == {"utterances": str(out), "utterances_hash": manifest.hash}
    assert set(manifest.breakdown["source"]) == {"spoken", "speech"}
    assert manifest.rows() + sum(manifest.rejects.values()) == 12 + 18
    train = ShardSet(out, "utterances", "train")
    for row in train.rows(range(len(train))):
        wave, rate_hz = read(row["audio"], row["id"])
        assert (rate_hz, len(wave)) == (row["sample_rate_hz"], row["num_samples"]) == (16_000, len(wave))


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    arguments = ("jobs/configs/build_corpus.speech.yaml", f"out={tmp_path / 'out'}", "--dry-run")
    command = [sys.executable, "-m", "jobs.build_corpus", *arguments, f"recordings={tmp_path / 'none'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "does not exist" in done.stderr.splitlines()[-1]
