from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.shards import ShardSet
from paluku.errors import CorpusError
from paluku.tokens.packing import frames_of, pack
from tests.fakes.tokens import write_tokens


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60), seed=st.integers(0, 5))
def test_every_document_is_in_one_row_that_has_room_for_it(lengths: list[int], seed: int) -> None:
    rows = pack(lengths, 30, seed)
    assert sorted(document for row in rows for document in row) == list(range(len(lengths)))
    filled = [sum(lengths[document] for document in row) for row in rows]
    assert max(filled) <= 30
    assert len(rows) == 1 or sum(sorted(filled)[:2]) > 30, "two rows would fit in one"


def test_it_is_the_known_packing_of_a_small_case() -> None:
    assert [sorted(row) for row in pack([5, 7, 3, 5, 6, 4], 10, seed=0)] == [[1, 2], [4, 5], [0, 3]]


def test_the_seed_decides_who_meets_and_nothing_else_does() -> None:
    lengths = [5] * 40
    assert pack(lengths, 10, 3) == pack(lengths, 10, 3)
    assert pack(lengths, 10, 3) != pack(lengths, 10, 4)


def test_many_documents_leave_few_frames_empty() -> None:
    lengths = np.random.default_rng(0).integers(200, 500, 2000)
    assert lengths.sum() / (len(pack(lengths, 1600, 0)) * 1600) >= 0.95


def test_lengths_are_read_in_the_order_of_rows(tmp_path: Path) -> None:
    tokens = ShardSet(write_tokens(tmp_path, train=70), "tokens", "train")
    expected = [row["num_frames"] for row in tokens.rows(range(70))]
    assert frames_of(tokens).tolist() == expected


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    tokens = ShardSet(write_tokens(tmp_path), "tokens", "train")
    shard = tmp_path / "train-00000.parquet"
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(CorpusError, match=r"train-00000\.parquet cannot be read .* extract the tokens again"):
        frames_of(tokens)
