"""Builds on a real Ray cluster: equal for any number of workers, and after any `kill -9`."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from paluku.cluster.local import LocalRay
from paluku.corpus.building.ownership import owning
from paluku.corpus.building.standing import WORK
from paluku.corpus.shards import MANIFEST, SPLITS, Manifest, ShardSet, read_manifest
from paluku.corpus.storage import Place
from tests.fakes.object_store import bucket
from tests.fakes.speech_folder import BROKEN, COPY, write_speech

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "jobs/configs/build_corpus.speech.yaml"
# Shards of a few rows and parts of one or two recordings: many places to be killed at.
SMALL = ("shard_mb=0.15", "part_minutes=0.06", "shares={dev: 0.2, test: 0.2}")
# Several builds in one process: each connection to a cluster takes seconds. Arguments are JSON lists of
# overrides; an answer is the manifest's hash or the error.
SCRIPT = """
import json, sys
import ray
from paluku.cluster.corpus import build
from paluku.config import load
from paluku.corpus.config import CorpusConfig
from paluku.errors import PalukuError
from paluku.log import to_stderr

to_stderr()
ray.init(address="auto", log_to_driver=False)
said = []
for overrides in sys.argv[2:]:
    try:
        said.append(build(load(CorpusConfig, sys.argv[1], json.loads(overrides))).hash)
    except PalukuError as error:
        said.append(f"{type(error).__name__}: {error}")
ray.shutdown()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("recordings"))


def builds(ray: LocalRay, *builds: list[str]) -> tuple[list[str], str]:
    """What each of several builds said, and all log lines."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, CONFIG, *map(json.dumps, builds)],
        cwd=ROOT,
        env=ray.env | {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def reference(local_ray: LocalRay, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpora built by 1, 2 and 4 workers (each has all of the two CPUs, one, or a half), one in a bucket."""
    folder = tmp_path_factory.mktemp("reference")
    wanted = [
        [f"out={folder / workers}", f"recordings={recordings}", f"cpus_per_task={cpus}", *SMALL]
        for workers, cpus in (("1", 2), ("2", 1), ("4", 0.5))
    ]
    with bucket() as uri:
        said, _ = builds(local_ray, *wanted, [f"out={uri}", f"recordings={recordings}", *SMALL])
        store = Place.of(uri)
        for name in store.list(recursive=True):
            Place.of(folder / "store").write_bytes(name, store.read_bytes(name))
    (folder / "said.json").write_text(json.dumps(said))
    return folder


def start(ray: LocalRay, out: Path, recordings: Path) -> subprocess.Popen[bytes]:
    """The job itself, as a user starts it."""
    settings = [f"out={out}", f"recordings={recordings}", *SMALL]
    command = [sys.executable, "-m", "jobs.build_corpus", CONFIG, *settings]
    with log_of(out).open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=ray.env, stdout=subprocess.DEVNULL, stderr=log)


def log_of(out: Path) -> Path:
    return out.with_name("job.log")


def tasks_done(out: Path) -> int:
    return len(list((out / WORK / "outcomes").glob("*.outcome")))


def wait_for_tasks(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    while tasks_done(out) < count:
        assert process.poll() is None, log_of(out).read_text()
        time.sleep(0.01)


def workers_at_work() -> Iterator[psutil.Process]:
    """Processes of this test's cluster that make a part or a shard just now: others' may run beside it."""
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::Map"):
            yield process


def assert_same(out: Path, reference: Path) -> None:
    """The same manifest, files and rejects, and nothing besides."""
    assert read_manifest(out) == read_manifest(reference)
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in reference.iterdir())
    for name in names:
        assert (out / name).read_bytes() == (reference / name).read_bytes(), name


@pytest.mark.ray
def test_any_number_of_workers_builds_the_same_bytes_anywhere(reference: Path) -> None:
    said = json.loads((reference / "said.json").read_text())
    manifest = read_manifest(reference / "1", "utterances")
    assert said == [manifest.hash] * 4
    assert_same(reference / "2", reference / "1")
    assert_same(reference / "4", reference / "1")
    assert_same(reference / "store", reference / "1")
    assert len(manifest.shards) > 3
    for split in SPLITS:
        ShardSet(reference / "1", "utterances", split).verify()


@pytest.mark.ray
def test_what_was_left_out_is_named_and_the_rest_is_there(reference: Path) -> None:
    manifest: Manifest = read_manifest(reference / "1")
    assert manifest.rejects == {"broken": 1, "duplicate": 1}
    rejects = {
        row["id"].partition("/")[2]: row for row in pq.read_table(reference / "1/rejects.parquet").to_pylist()
    }
    assert rejects[BROKEN]["reason"] == "broken"
    assert "speaker-4/0.flac" in rejects[COPY]["detail"]
    assert manifest.rows() == 16
    (source,) = manifest.breakdown["source"]
    assert len(manifest.breakdown["speaker"]) == 8
    total = manifest.breakdown["source"][source]
    assert total == pytest.approx(sum(manifest.hours.values()), abs=1e-5)
    assert manifest.recipe["shard_mb"] == 0.15


@pytest.mark.ray
def test_a_driver_killed_at_three_points_changes_nothing(
    local_ray: LocalRay, recordings: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    points = random.Random(4)
    for _ in range(3):
        process = start(local_ray, out, recordings)
        wait_for_tasks(process, out, tasks_done(out) + points.randint(1, 2))
        process.kill()
        assert process.wait() == -9
        assert not (out / MANIFEST).exists()
    process = start(local_ray, out, recordings)
    assert process.wait() == 0, log_of(out).read_text()
    assert "holds an unfinished build of these settings: continued" in log_of(out).read_text()
    assert_same(out, reference / "1")


@pytest.mark.ray
def test_workers_killed_at_three_points_change_nothing(
    local_ray: LocalRay, recordings: Path, reference: Path, tmp_path: Path
) -> None:
    out, points = tmp_path / "corpus", random.Random(2)
    process = start(local_ray, out, recordings)
    for _ in range(3):
        wait_for_tasks(process, out, tasks_done(out) + points.randint(1, 2))
        while (worker := next(workers_at_work(), None)) is None:
            assert process.poll() is None, log_of(out).read_text()
        worker.kill()
    assert process.wait() == 0, log_of(out).read_text()
    assert_same(out, reference / "1")


@pytest.mark.ray
def test_what_stands_there_is_kept_continued_refused_or_replaced(
    local_ray: LocalRay, recordings: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    about = [f"out={out}", f"recordings={recordings}", *SMALL]
    in_the_way = tmp_path / "corpus" / WORK / "parts"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    (blocked,), _ = builds(local_ray, about)
    assert blocked.startswith("StorageError: ")
    assert f"{WORK}/parts" in blocked
    in_the_way.unlink()
    said, log = builds(
        local_ray,
        [*about, "max_reject_share=0.01"],  # one of 18 is more
        [*about, "max_reject_share=0.06"],
        about,
        [*about, "seed=1"],
        [*about, "seed=1", "overwrite=true"],
    )
    assert said[0].startswith(
        "CorpusError: 1 of 18 utterances were rejected: 1 broken; max_reject_share allows 1%"
    )
    assert BROKEN in said[0]
    assert said[1] == said[2] == read_manifest(reference / "1").hash
    assert f"CorpusError: {out} holds a corpus of other settings" in said[3]
    assert said[4] == read_manifest(out).hash != said[1]
    assert "unfinished build of these settings: continued" in log
    assert "is whole and of these settings: kept as it is" in log
    assert "it is replaced once all parts are made" in log
    assert not (out / WORK).exists()


@pytest.mark.ray
def test_a_replaced_recording_is_looked_at_again_and_nothing_else(
    local_ray: LocalRay, recordings: Path, tmp_path: Path
) -> None:
    mine, out = tmp_path / "recordings", tmp_path / "corpus"
    shutil.copytree(recordings, mine)
    about = [f"out={out}", f"recordings={mine}", *SMALL]
    builds(local_ray, [*about, "max_reject_share=0.01"])
    parts = out / WORK / "parts"
    before = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    lost = sorted(before)[-1]
    (parts / lost).unlink()
    os.utime(mine / "speaker-2/0.flac", ns=(0, 0))
    (said,), _ = builds(local_ray, [*about, "max_reject_share=0.01"])
    assert "1 of 18 utterances were rejected: 1 broken" in said
    after = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert len(after.keys() - before) == 1, "the part of the replaced recording"
    assert after[lost] != before[lost], "the part that was lost"
    assert all(after[name] == before[name] for name in before if name != lost)

    with owning(Place.of(out) / WORK):
        said, _ = builds(local_ray, [*about, "max_reject_share=0.06"])
    assert f"is being built by process {os.getpid()}" in said[0]
    (first,), _ = builds(local_ray, [*about, "max_reject_share=0.06"])
    shard = read_manifest(out).shards[0]
    (out / shard.path).unlink()
    (out / "mine.parquet").touch()
    (again,), log = builds(local_ray, [*about, "max_reject_share=0.06"])
    assert again == first
    assert "lacks shards that its manifest names: made again" in log
    assert (out / shard.path).stat().st_size == shard.num_bytes
    assert (out / "mine.parquet").exists()
    os.utime(mine / BROKEN, ns=(0, 0))
    (said,), _ = builds(local_ray, about)
    assert f"CorpusError: {out} holds a corpus of other settings or other recordings" in said
