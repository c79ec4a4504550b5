import json
import pickle
from collections.abc import Iterator
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
from paluku.errors import ConfigError, CorpusError


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
        "user_text": [0, 2, 0, 0],
        "user_turns": [{"text": "హా", "intent": "", "start": 0, "end": 1}],
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


def test_a_corpus_of_the_earlier_schema_asks_to_be_built_again(folder: Path) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(values | {"schema_version": 1}))
    with pytest.raises(CorpusError, match=r"was written in schema 1, this version reads 2; build it again"):
        read_manifest(folder)


def dialogue_row() -> dict[str, object]:
    words = [{"text": "అవును", "start_s": 0.25, "end_s": 0.5}]
    turn = {"role": "agent", "text": "అవును", "start_s": 0.25, "end_s": 0.5, "kind": "turn"}
    return {
        "id": "dialogue-0",
        "audio": bytes(range(256)) * 40,
        "sample_rate_hz": 16_000,
        "num_samples": 16_000,
        "voice": "ravi",
        "style": "neutral",
        "user_voice": "espeak/anu",
        "intents": ["time-now", "thanks"],
        "turns": [turn | {"words": words, "is_timed": True}],
        "augmentation": "{}",
        "source": "te_turns",
        "licence": "CC0-1.0",
        "split": "train",
    }


def test_a_dialogue_comes_back_whole(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "dialogues", "train", 0, [dialogue_row()])
    write_manifest(tmp_path, Manifest(kind="dialogues", config_sha256="0" * 64, shards=(shard,)))
    assert ShardSet(tmp_path, "dialogues", "train").rows([0]) == [dialogue_row()]


def test_sound_is_stored_as_it_is_and_text_is_compressed(tmp_path: Path) -> None:
    write_shard(tmp_path, "dialogues", "train", 0, [dialogue_row()])
    group = pq.read_metadata(tmp_path / "train-00000.parquet").row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert columns["audio"].compression == "UNCOMPRESSED"
    assert columns["turns.list.element.words.list.element.text"].compression == "ZSTD"
    assert not columns["audio"].is_stats_set


def test_columns_of_a_row_that_the_schema_lacks_are_left_out(tmp_path: Path) -> None:
    write_shard(tmp_path, "tokens", "train", 0, [token_row(0) | {"more": 1}])
    assert "more" not in pq.read_schema(tmp_path / "train-00000.parquet").names


def test_tokens_of_an_older_version_are_refused_with_what_to_do(folder: Path) -> None:
    for name in ("train-00000.parquet", "train-00001.parquet"):
        pq.write_table(pq.read_table(folder / name).drop_columns("user_text"), folder / name)
    manifest = read_manifest(folder)
    sizes = [
        shard.model_copy(update={"num_bytes": (folder / shard.path).stat().st_size})
        for shard in manifest.shards
    ]
    write_manifest(folder, manifest.model_copy(update={"shards": tuple(sizes)}))
    with pytest.raises(CorpusError, match=r"has no user_text: an older version .* jobs/extract_tokens\.py"):
        ShardSet(folder, "tokens", "train").rows([0])


def test_rows_that_fail_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, object]]:
        yield token_row(0)
        raise CorpusError("row 1 is broken")

    with pytest.raises(CorpusError, match="row 1 is broken"):
        write_shard(tmp_path, "tokens", "train", 0, rows())
    assert not list(tmp_path.iterdir())
