"""`run_resumably` on a real cluster: order, memory of what is done, killed workers, errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paluku.cluster.local import LocalRay

ROOT = Path(__file__).resolve().parents[2]
# One process asks everything: each connection to a cluster takes seconds.
SCRIPT = """
import functools, json, sys
import ray
from paluku.cluster.shard_tasks import run_resumably
from paluku.errors import PalukuError
from tests.cluster.counting import count, refuse

work, calls = sys.argv[1:]
ray.init(address="auto", log_to_driver=False)
make = functools.partial(count, folder=calls)
said = {"first": run_resumably(["a", "b", "c"], make, work, "first")}
said["more"] = run_resumably(["d", "c", "e-die", "a", "f-die"], make, work, "more", cpus_per_task=0.5)
said["none"] = run_resumably([], make, work, "none")
for plan in ("full", "noisy"):
    try:
        run_resumably([plan], refuse, work, plan)
    except PalukuError as error:
        said[plan] = [type(error).__name__, str(error)]
ray.shutdown()  # it would say something of the killed workers after us
print(json.dumps(said))
"""


@pytest.mark.ray
def test_plans_are_made_once_in_order_whatever_dies(local_ray: LocalRay, tmp_path: Path) -> None:
    work, calls = tmp_path / "work", tmp_path / "calls"
    calls.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(work), str(calls)],
        cwd=ROOT,
        env=local_ray.env | {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["first"] == ["a", "b", "c"]
    assert said["more"] == ["d", "c", "eid-e", "a", "eid-f"]
    assert said["none"] == []
    assert said["full"] == ["StorageError", "/mnt is full"]
    assert said["noisy"] == ["UnusableError", "noisy: 3 dB"]
    made = [path.name.partition(".")[0] for path in calls.iterdir()]
    assert {plan: made.count(plan) for plan in "abcd"} == dict.fromkeys("abcd", 1)
    assert all(made.count(plan) == 2 for plan in ("e-die", "f-die"))
    # A plan that failed is not remembered.
    assert len(list(work.iterdir())) == 6
