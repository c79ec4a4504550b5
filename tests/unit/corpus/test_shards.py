import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from paluku.corpus.shards import (
    MANIFEST,
    ROWS_PER_GROUP,
    Manifest,
    ShardSet,
    read_manifest,
    write_manifest,
    write_shard,
)
from paluku.errors import ConfigError, CorpusError, StorageError


def token_row(number: int) -> dict[str, object]:
    codes = np.arange(8, dtype=np.int16) + number
    return {
        "id": f"row-{number}",
        "split": "train",
        "voice": "ravi",
        "style": "neutral",
        "num_frames": 4,
        "agent_codes": codes,
        "user_codes": codes[::-1],
        "text": [0, 0, 1, number],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of three and two row groups: 150 and 70 rows."""
    rows = [token_row(number) for number in range(220)]
    shards = (
        write_shard(tmp_path, "tokens", "train", 0, rows[:150]),
        write_shard(tmp_path, "tokens", "train", 1, rows[150:]),
    )
    write_manifest(tmp_path, Manifest(kind="tokens", config_sha256="0" * 64, shards=shards))
    return tmp_path


def test_any_row_comes_back_from_its_number(folder: Path) -> None:
    tokens = ShardSet(folder, "tokens", "train")
    assert len(tokens) == 220
    wanted = [219, 0, 63, 64, 149, 150, 213, 214, 64]
    rows = tokens.rows(wanted)
    assert [row["id"] for row in rows] == [f"row-{number}" for number in wanted]
    for number, row in zip(wanted, rows, strict=True):
        assert row["agent_codes"].dtype == np.int16
        np.testing.assert_array_equal(row["agent_codes"], np.arange(8) + number)
        np.testing.assert_array_equal(row["user_codes"], np.arange(8)[::-1] + number)
        assert row["text"].tolist() == [0, 0, 1, number]


def test_row_groups_have_the_size_that_the_numbering_counts_on(folder: Path) -> None:
    metadata = pq.read_metadata(folder / "train-00000.parquet")
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sizes == [ROWS_PER_GROUP, ROWS_PER_GROUP, 150 - 2 * ROWS_PER_GROUP]


@pytest.mark.parametrize("number", [-1, 220])
def test_a_number_outside_the_set_is_refused(folder: Path, number: int) -> None:
    with pytest.raises(IndexError, match=f"{number} of 220"):
        ShardSet(folder, "tokens", "train").rows([number])


def test_a_set_travels_to_another_process(folder: Path) -> None:
    tokens = ShardSet(folder, "tokens", "train")
    tokens.rows([0])
    assert pickle.loads(pickle.dumps(tokens)).rows([151])[0]["id"] == "row-151"


def test_the_hash_names_the_rows_and_nothing_else(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def built(numbers: range) -> Manifest:
        place = tmp_path_factory.mktemp("again")
        shard = write_shard(place, "tokens", "train", 0, [token_row(number) for number in numbers])
        return Manifest(kind="tokens", config_sha256="0" * 64, shards=(shard,))

    assert built(range(3)).hash == built(range(3)).hash
    assert len({built(range(3)).hash, built(range(4)).hash, built(range(1, 4)).hash}) == 3


def test_a_manifest_survives_its_file(folder: Path) -> None:
    manifest = read_manifest(folder)
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert not list(folder.glob("*.partial"))


def test_a_folder_without_a_manifest_is_not_whole(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(CorpusError, match=f"holds no {MANIFEST}"):
        ShardSet(folder, "tokens", "train")


def test_half_a_manifest_is_named(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(ConfigError, match=r"manifest\.json is not JSON"):
        read_manifest(folder)


def test_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(CorpusError, match="holds tokens, not dialogues"):
        ShardSet(folder, "dialogues", "train")


def test_an_empty_split_is_refused(folder: Path) -> None:
    with pytest.raises(CorpusError, match="no rows in split 'dev'"):
        ShardSet(folder, "tokens", "dev")


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "train-00001.parquet").unlink()
    with pytest.raises(CorpusError, match=r"train-00001\.parquet is missing"):
        ShardSet(folder, "tokens", "train")


def test_a_truncated_shard_is_named(folder: Path) -> None:
    shard = folder / "train-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CorpusError, match=r"train-00000\.parquet has \d+ bytes, its manifest says"):
        ShardSet(folder, "tokens", "train")


def test_a_shard_overwritten_in_place_is_found(folder: Path) -> None:
    shard = folder / "train-00001.parquet"
    shard.write_bytes(bytes(shard.stat().st_size))
    tokens = ShardSet(folder, "tokens", "train")
    assert tokens.rows([149])[0]["id"] == "row-149"
    with pytest.raises(CorpusError, match=r"train-00001\.parquet cannot be read"):
        tokens.rows([150])
    with pytest.raises(CorpusError, match=r"train-00001\.parquet has sha256"):
        tokens.verify()


def test_an_untouched_set_verifies(folder: Path) -> None:
    ShardSet(folder, "tokens", "train").verify()


def test_a_full_disk_is_said_and_leaves_no_shard(tmp_path: Path) -> None:
    (tmp_path / "train-00000.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"train-00000\.parquet cannot be written .*No space left"):
        write_shard(tmp_path, "tokens", "train", 0, [token_row(0)])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_manifest(tmp_path: Path) -> None:
    (tmp_path / f"{MANIFEST}.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        write_manifest(tmp_path, Manifest(kind="tokens", config_sha256="0" * 64, shards=()))
    assert not list(tmp_path.iterdir())
