"""The job as a user starts it, against a stand-in of the Hub: only the client's own settings say where."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.bundle import tiny_bundle
from tests.fakes.hub import TOKEN, FakeHub

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "jobs/configs/publish.yaml"


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub().running() as hub:
        yield hub


def publish(fake: FakeHub, home: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_TOKEN", "HUGGING_FACE"))
    }
    env |= {"HF_ENDPOINT": fake.endpoint, "HF_HOME": str(home), **environment}
    command = [sys.executable, "-m", "jobs.publish", CONFIG, "repository=me/talk", *argv]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_a_dry_run_lists_and_a_real_one_pushes(fake: FakeHub, tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path)
    for part in ("codec", "s2s"):
        (folder / part / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    dry = publish(fake, tmp_path / "home", f"bundle={folder}", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "codec/model.safetensors" in dry.stderr
    assert not fake.requests
    told = json.loads(dry.stdout.splitlines()[-1])

    without = publish(fake, tmp_path / "home", f"bundle={folder}")
    assert without.returncode == 2
    assert without.stderr.splitlines()[-1].startswith("error: there is no token for http://127.0.0.1")

    done = publish(fake, tmp_path / "home", f"bundle={folder}", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    sent = fake.repos["me/talk"].commits[said["commit"]]
    assert said["address"] == f"hub:me/talk@{said['commit']}"
    assert len(sent) - 1 == said["files"] == told["files"]  # all but the Hub's own .gitattributes
    assert told["bytes"] == sum(len(data) for name, data in sent.items() if name != ".gitattributes")
    assert TOKEN not in done.stdout + done.stderr
