"""Dialogues on a real Ray cluster: whole, continued, and left alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paluku.cluster.dialogues import outcomes_of, plan
from paluku.cluster.local import LocalRay
from paluku.cluster.shard_tasks import outcome_name
from paluku.config import load
from paluku.corpus.building.standing import WORK, begin_work
from paluku.corpus.dialogues.plans import DialoguesConfig
from paluku.corpus.dialogues.shards import Making, make_shard
from paluku.corpus.shards import read_manifest
from paluku.corpus.storage import Place
from paluku.corpus.voices.cast import Cast

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "jobs/configs/build_dialogues.demo.yaml"
SHEET = """\
# licence: CC0-1.0
intent	topic	role	text	style	held_out	provenance	reviewed
greetings.hello	greetings	ask	నమస్కారం	-	no	test	no
greetings.hello	greetings	ask	హలో	-	yes	test	no
greetings.hello	greetings	reply	నమస్కారం, చెప్పండి.	happy	no	test	no
time.now	time	ask	ఇప్పుడు సమయం ఎంత?	-	no	test	no
time.now	time	reply	ఇప్పుడు ఐదు గంటలు అయింది, కొంచెం ఆగండి.	neutral	no	test	no
"""


def settings(folder: Path, out: str, *more: str) -> list[str]:
    sheet = folder / "turns.tsv"
    sheet.write_text(SHEET, encoding="utf-8")
    return [f"out={folder / out}", f"intents=[{sheet}]", "dialogues=10", "rows_per_shard=2", *more]


def build(ray: LocalRay, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.build_dialogues", str(CONFIG), *overrides]
    return subprocess.run(command, cwd=ROOT, env=ray.env, capture_output=True, text=True, check=False)


def made_without_ray(overrides: list[str], count: int) -> list[Path]:
    """What a build leaves that was killed after `count` shards and in the midst of one more."""
    config = load(DialoguesConfig, CONFIG, overrides)
    planned = plan(config)
    out = Place.of(config.out)
    begin_work(out, planned.key)
    making, paths = Making(rendering=config.rendering, seed=config.seed), []
    for shard in planned.shards[:count]:
        outcome = make_shard(shard, out, Cast(planned.cast), making)
        outcomes_of(out, planned.key).write_bytes(
            outcome_name(shard.model_dump_json()), outcome.model_dump_json().encode()
        )
        assert outcome.shard is not None
        paths.append(Path(config.out) / outcome.shard.path)
    (Path(config.out) / "train-00099.parquet.partial").write_bytes(b"PAR1")
    return paths


@pytest.mark.ray
def test_a_killed_build_goes_on_with_fewer_workers_and_leaves_the_bytes_of_an_undisturbed_one(
    local_ray: LocalRay, tmp_path: Path
) -> None:
    # On two cores four workers make the one, a single one what is left of the other.
    whole = settings(tmp_path, "whole", "cpus_per_task=0.5")
    killed = settings(tmp_path, "killed", "cpus_per_task=2")
    done = build(local_ray, *whole)
    assert done.returncode == 0, done.stderr
    kept = {path: path.stat().st_mtime_ns for path in made_without_ray(killed, 2)}
    done = build(local_ray, *killed)
    assert done.returncode == 0, done.stderr
    assert "unfinished: continued" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was made is not made again"
    manifest = read_manifest(tmp_path / "killed", "dialogues")
    assert manifest == read_manifest(tmp_path / "whole", "dialogues")
    assert json.loads(done.stdout.splitlines()[-1])["dialogues_hash"] == manifest.hash
    assert manifest.rows() == 10
    assert sum(manifest.breakdown["user_voice"].values()) == pytest.approx(
        sum(manifest.hours.values()), abs=1e-4
    )
    for folder in ("whole", "killed"):
        names = {path.name for path in (tmp_path / folder).iterdir()}
        assert names == {"manifest.json", "rejects.parquet", *(shard.path for shard in manifest.shards)}

    # The same again is kept; other settings are refused, and replace it when asked to.
    done = build(local_ray, *whole)
    assert "kept as it is" in done.stderr
    done = build(local_ray, *whole, "seed=5")
    assert done.returncode == 2
    assert "overwrite=true" in done.stderr.splitlines()[-1]
    assert read_manifest(tmp_path / "whole") == manifest
    done = build(local_ray, *whole, "seed=5", "dialogues=4", "overwrite=true")
    assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "whole").rows() == 4


def test_work_of_other_settings_is_not_taken_over(tmp_path: Path) -> None:
    overrides = settings(tmp_path, "out")
    made_without_ray(overrides, 1)
    found = plan(load(DialoguesConfig, CONFIG, overrides))
    assert (found.shards_done, found.standing) == (1, "is unfinished: continued")
    (lost,) = (tmp_path / "out").glob("*-?????.parquet")
    data = lost.read_bytes()
    lost.unlink()
    assert plan(load(DialoguesConfig, CONFIG, overrides)).shards_done == 0, "its file counts, not its memory"
    lost.write_bytes(data)
    other = plan(load(DialoguesConfig, CONFIG, [*overrides, "seed=9"]))
    assert (other.shards_done, other.standing) == (0, "is unfinished, of other settings: begun anew")
    assert (tmp_path / "out" / WORK).is_dir()


def test_recordings_are_known_by_place_and_content(tmp_path: Path) -> None:
    noises = [tmp_path / "noises" / name / "a.wav" for name in ("street", "office")]
    for number, path in enumerate(noises):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes([number]) * 100)
    overrides = settings(tmp_path, "out", f"rendering.augmentation.noise_folder={tmp_path / 'noises'}")
    config = load(DialoguesConfig, CONFIG, overrides)
    found = [plan(config).parents["noises"]]
    noises[0].write_bytes(bytes([7]) * 100)  # other sound of the same length
    found.append(plan(config).parents["noises"])
    noises[0].rename(noises[0].parent.parent / "a.wav")  # and the same name elsewhere
    found.append(plan(config).parents["noises"])
    assert len(set(found)) == 3


@pytest.mark.ray
def test_too_many_rejects_fail_in_one_line_and_the_work_stays(local_ray: LocalRay, tmp_path: Path) -> None:
    overrides = settings(tmp_path, "out", "rendering.max_s=1.0")
    done = build(local_ray, *overrides)
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: 10 of 10 dialogues were rejected: 10 long; max_reject_share allows 2%")
    assert not (tmp_path / "out" / "manifest.json").exists()
