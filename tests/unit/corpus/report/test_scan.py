from pathlib import Path

import pytest

from paluku.corpus.report import scan
from paluku.corpus.shards import read_manifest
from paluku.corpus.storage import Place
from paluku.errors import CorpusError
from tests.fakes.folders import dialogue, utterance, write_folder

SPLITS = ("train", "train", "dev", "test")


def utterances(count: int) -> list[dict[str, object]]:
    return [utterance(n, 0.1, split=SPLITS[n % 4], source=f"source-{n % 3}") for n in range(count)]


def test_every_row_comes_by_once_and_without_sound(tmp_path: Path) -> None:
    manifest = write_folder(tmp_path, "utterances", utterances(150))
    batches = list(scan.scan(Place.of(tmp_path), manifest))
    ids = [name for batch in batches for name in batch.rows["id"].to_pylist()]
    assert sorted(ids) == [f"corpus/{n:04d}" for n in range(150)]
    assert all("audio" not in batch.rows.column_names for batch in batches)


def test_a_dialogues_turns_come_without_their_words(tmp_path: Path) -> None:
    manifest = write_folder(tmp_path, "dialogues", [dialogue(0)])
    (batch,) = scan.scan(Place.of(tmp_path), manifest)
    (turns,) = batch.rows["turns"].to_pylist()
    assert [sorted(turn) for turn in turns] == [["end_s", "is_timed", "kind", "role", "start_s", "text"]] * 2


def test_a_row_is_fetched_whole_from_where_it_was_seen(tmp_path: Path) -> None:
    rows = utterances(300)
    place, manifest = Place.of(tmp_path), write_folder(tmp_path, "utterances", rows)
    for batch in scan.scan(place, manifest):
        last = len(batch.rows) - 1
        (found,) = scan.fetch(place, [scan.Spot(batch.shard, batch.first_row + last)])
        assert found["id"] == batch.rows["id"][last].as_py()
        assert found["audio"] == next(row["audio"] for row in rows if row["id"] == found["id"])


def drawn(folder: Path, seed: int, each: int = 2, *, backwards: bool = False) -> list[str]:
    place, sampler = Place.of(folder), scan.Sampler(each, seed)
    batches = list(scan.scan(place, read_manifest(folder)))
    for batch in reversed(batches) if backwards else batches:
        sampler.offer(batch)
    return [row["id"] for row in scan.fetch(place, sampler.drawn())]


def test_samples_are_drawn_per_source_and_split_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    write_folder(tmp_path, "utterances", utterances(60))
    first = drawn(tmp_path, seed=0)
    assert len(first) == 2 * 3 * 3
    assert drawn(tmp_path, seed=0, backwards=True) == first
    assert drawn(tmp_path, seed=1) != first
    assert drawn(tmp_path, seed=0, each=1) == first[::2]
    assert drawn(tmp_path, seed=0, each=0) == []


def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    manifest = write_folder(tmp_path, "utterances", utterances(8))
    (tmp_path / "train-00000.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(CorpusError, match=r"train-00000\.parquet cannot be read"):
        list(scan.scan(Place.of(tmp_path), manifest))
    (tmp_path / "train-00000.parquet").unlink()
    with pytest.raises(CorpusError, match=r"train-00000\.parquet is missing"):
        list(scan.scan(Place.of(tmp_path), manifest))


def test_a_folder_without_rejects_has_none(tmp_path: Path) -> None:
    assert list(scan.rejects(Place.of(tmp_path))) == []
