import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from paluku.corpus.voices.hts import VOICE_VARIABLE

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("job", ["build_corpus", "build_dialogues"])
def test_a_build_finds_the_hts_voice_beside_the_repository(job: str, tmp_path: Path) -> None:
    """It is named in the environment, as Ray's processes inherit it; a dry run speaks nothing."""
    cast = {
        "users": {
            "user_m1": {"engine": "espeak", "voice": "Michael", "gender": "male"},
            "user_m6": {"engine": "espeak", "voice": "m7", "gender": "male"},
            "hts_f1": {"engine": "hts", "voice": "nk_f1", "gender": "female"},
        },
        "held_out": ["user_m6"],
        "hts": {"program": sys.executable},
    }
    (tmp_path / "cast.yaml").write_text(yaml.safe_dump(cast))
    (tmp_path / "nk.htsvoice").touch()
    configs = {
        "build_corpus": {"sources": [{"kind": "spoken", "count": 2, "cast": cast}]},
        "build_dialogues": {"cast": str(tmp_path / "cast.yaml"), "dialogues": 12},
    }
    config = {"out": str(tmp_path / "out"), **configs[job]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    code = (
        "import importlib, os, pathlib, jobs.voices\n"
        f"jobs.voices.BESIDE = pathlib.Path({str(tmp_path / 'nk.htsvoice')!r})\n"
        f"importlib.import_module('jobs.{job}').main()\n"
        f"print(os.environ.get({VOICE_VARIABLE!r}))"
    )
    environment = {name: value for name, value in os.environ.items() if name != VOICE_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "config.yaml"), "--dry-run"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": "platform"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "nk.htsvoice")
