"""Laws of seats that never end: memory stays flat, and all that a seat is are its last frames."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paluku.s2s.prefill import reach_frames
from paluku.streaming.ports import Batch, Conditions, History
from paluku.streaming.stages import ConverseStage
from tests.fakes.s2s import K, V, tiny_s2s

HOUR_FRAMES = 90_000
ROOT = Path(__file__).parents[2]
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")


@needs_compiler
@pytest.mark.timeout(1200)
def test_an_hour_of_frames_leaves_a_seat_as_its_last_window_makes_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.fakes.endless", str(HOUR_FRAMES)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "platform:.", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2_000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["position"] == HOUR_FRAMES
    assert told["compiled_said_otherwise"] == 0, "compiled, the model says the same"
    assert told["grown_kb"] < 4_096, "of the whole process"
    assert told["state_size"] > 0.1
    assert told["state_apart"] < 1e-5 * told["state_size"]


@pytest.mark.parametrize("start", [HOUR_FRAMES, 2**33 + 5, 2**60 + 3])
def test_a_seat_says_the_same_however_long_its_session_has_lasted(start: int) -> None:
    """Greedy: only differences of positions count, also where float32 cannot tell two of them apart."""
    model = tiny_s2s()
    frames = reach_frames(model) + 3
    user = np.random.default_rng(1).integers(0, V, (frames + 20, K)).astype(np.int16)
    replies = np.random.default_rng(2).integers(0, V, (frames, 2 + K)).astype(np.int16)
    greedy = Conditions(temperature=0.0, text_temperature=0.0)
    said = []
    for first in (0, start):
        stage = ConverseStage(model, 1)
        stage.open(0, greedy)
        for _ in stage.prime(0, History(first, np.zeros((0, 640), np.int16), user[:frames], replies)):
            pass
        one = np.zeros(1, np.int32)
        said.append([stage.step(Batch(one, row[None])).payload[0].tolist() for row in user[frames:]])
    assert said[0] == said[1]
