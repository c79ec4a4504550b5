from pathlib import Path

import pytest

from paluku.corpus.building import standing
from paluku.corpus.building.ownership import owning
from paluku.corpus.building.standing import LISTING, WORK, Standing, WorkKey
from paluku.corpus.shards import Manifest, ShardInfo, write_manifest, write_shard
from paluku.corpus.storage import Place
from paluku.errors import CorpusError
from tests.unit.corpus.test_shards import token_row

KEY = WorkKey(recipe="a" * 64, listing="b" * 64, part_minutes=10)
RELISTED = KEY.model_copy(update={"listing": "c" * 64})
OTHER = KEY.model_copy(update={"recipe": "c" * 64})


@pytest.fixture
def out(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "corpus")


def finish(out: Place, key: WorkKey, *shards: ShardInfo) -> Manifest:
    parents = {LISTING: key.listing[:16]}
    manifest = Manifest(kind="utterances", config_sha256=key.recipe, parents=parents, shards=shards)
    write_manifest(out, manifest)
    return manifest


def test_what_a_folder_holds(out: Place) -> None:
    assert standing.standing(out, KEY) is Standing.NEW
    standing.begin_work(out, KEY)
    assert standing.standing(out, KEY) is Standing.UNFINISHED
    assert standing.standing(out, RELISTED) is Standing.UNFINISHED
    assert standing.standing(out, OTHER) is Standing.OUTDATED
    finish(out, KEY)
    assert standing.standing(out, KEY) is Standing.DONE
    assert standing.standing(out, OTHER) is Standing.OTHER


@pytest.mark.parametrize("manifest", [b"half a manif", b'{"schema_version": 1}', b"{}"])
def test_a_manifest_that_cannot_be_read_is_another_corpus(out: Place, manifest: bytes) -> None:
    out.write_bytes("manifest.json", manifest)
    assert standing.standing(out, KEY) is Standing.OTHER
    with pytest.raises(CorpusError, match=r"overwrite=true"):
        standing.refuse_other(out)


def test_work_of_the_same_key_is_kept_and_of_another_is_thrown_away(out: Place) -> None:
    work = standing.begin_work(out, KEY)
    work.write_bytes("parts/000000.parquet", b"x")
    work.write_bytes("outcomes/a.outcome", b"x")
    standing.begin_work(out, KEY)
    standing.begin_work(out, RELISTED)  # parts are named by what they are made of
    assert work.exists("parts/000000.parquet")
    assert standing.work_key(out) == RELISTED
    standing.begin_work(out, OTHER)
    assert work.list(recursive=True) == ["key.json"]
    assert standing.work_key(out) == OTHER


def test_work_of_other_code_is_not_continued(out: Place) -> None:
    standing.begin_work(out, KEY.model_copy(update={"code": "an earlier version"}))
    assert standing.standing(out, KEY) is Standing.OUTDATED


def test_a_damaged_key_belongs_to_nobody(out: Place) -> None:
    out.write_bytes(f"{WORK}/key.json", b"half a k")
    assert standing.standing(out, KEY) is Standing.OUTDATED


def test_a_whole_corpus_loses_what_a_killed_build_left(out: Place) -> None:
    standing.begin_work(out, KEY)
    manifest = finish(out, KEY)
    assert standing.kept(out) == manifest
    assert out.list(recursive=True) == ["manifest.json"]


def test_sweeping_leaves_what_is_to_stay_and_what_is_not_ours(out: Place) -> None:
    keep = write_shard(out, "tokens", "train", 0, [token_row(0)]).path
    write_shard(out, "tokens", "train", 1, [token_row(1)])
    out.write_bytes("train-00002.parquet.0a1b2c3d.partial", b"x")
    out.write_bytes("rejects.parquet.0a1b2c3d.partial", b"x")
    mine = ["README.md", "foreign.parquet", "movie.mkv.partial", "train-1.parquet", "train-00000.parquet.bak"]
    for name in mine:
        out.write_bytes(name, b"mine")
    standing.sweep(out, keep={keep})
    assert out.list() == sorted([*mine, keep])


@pytest.mark.parametrize("data", [None, b"of another size"])
def test_a_corpus_that_lost_a_shard_is_not_whole(out: Place, data: bytes | None) -> None:
    shard = write_shard(out, "tokens", "train", 0, [token_row(0)])
    finish(out, KEY, shard)
    assert standing.standing(out, KEY) is Standing.DONE
    out.delete(shard.path)
    if data is not None:
        out.write_bytes(shard.path, data)
    assert standing.standing(out, KEY) is Standing.UNFINISHED
    with pytest.raises(CorpusError, match="changed while they were made"):
        standing.refuse_changed(out, [shard])


def test_a_whole_corpus_leaves_the_work_of_a_build_that_is_to_replace_it(out: Place) -> None:
    finish(out, KEY)
    with owning(out / WORK):
        standing.kept(out)
        assert (out / WORK).exists("owner.json")
