"""Parts, what is decided over them, and the shards copied out of them; preparation is a fake."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from paluku.corpus.building.decide import Decision, copy_shard, decide
from paluku.corpus.building.listing import list_sources
from paluku.corpus.building.parts import PartOutcome, Prepare, make_part
from paluku.corpus.shards import SPLITS, write_shard
from paluku.corpus.splits import CorpusShares
from paluku.corpus.storage import Place
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError
from tests.fakes.sources import ListedSource, fake_prepare, fingerprint, recording, row

SHARES = CorpusShares(dev=0.2, test=0.2)


def prepared(
    work: Place, listed: Sequence[Utterance], prepare: Prepare = fake_prepare, part_s: float = 20.0
) -> list[PartOutcome]:
    listing = list_sources([ListedSource(listed)], part_s, work)
    return [make_part(part, work, prepare) for part in listing.parts]


def decided(work: Place, parts: Sequence[PartOutcome], shard_bytes: float = 5000) -> Decision:
    return decide([part.path for part in parts], work, SHARES, 0, shard_bytes)


def rows_of(work: Place, decision: Decision) -> list[dict[str, Any]]:
    return [found for shard in decision.shards for found in copy_shard(shard, work)]


@pytest.fixture
def work(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "work")


def test_a_part_keeps_the_order_and_names_what_it_left_out(work: Place) -> None:
    (outcome,) = prepared(work, [recording(number) for number in range(7)], part_s=1e6)
    ids = pq.read_table(str(work.local) + "/" + outcome.path).column("id").to_pylist()
    assert ids == [
        *("fake/r0000#0000", "fake/r0000#0001", "fake/r0001#0000", "fake/r0001#0001"),
        *("fake/r0002#0000", "fake/r0002#0001", "fake/r0003#0000", "fake/r0003#0001"),
        *("fake/r0004#0000", "fake/r0005#0000", "fake/r0005#0001"),
    ]
    assert [(reject.id, reject.reason) for reject in outcome.rejects] == [
        ("fake/r0004#0001", "noisy"),
        ("fake/r0006", "broken"),
    ]
    assert (outcome.rows, outcome.audio_s) == (11, 33.0)


def test_a_part_made_again_has_the_same_bytes(work: Place) -> None:
    def made() -> str:
        (outcome,) = prepared(work, [recording(number) for number in range(40)], part_s=1e6)
        return outcome.model_dump_json() + hashlib.sha256(work.read_bytes(outcome.path)).hexdigest()

    assert made() == made()


def test_a_part_of_nothing_but_rejects_is_empty(work: Place) -> None:
    (outcome,) = outcomes = prepared(work, [recording(6), recording(13)])
    assert (outcome.rows, len(outcome.rejects)) == (0, 2)
    assert decided(work, outcomes).shards == ()


def test_dropped_transcripts_are_counted(work: Place) -> None:
    listed = [recording(number) for number in range(3)]
    outcomes = prepared(work, listed, lambda u: iter([row(u, text_dropped=u.id != "r0001")]))
    assert sum(outcome.counts.get("text_dropped", 0) for outcome in outcomes) == 2


def test_every_row_comes_into_one_shard_in_the_order_of_the_listing(work: Place) -> None:
    outcomes = prepared(work, [recording(number) for number in range(100)])
    decision = decided(work, outcomes)
    rows = rows_of(work, decision)
    assert len(rows) == sum(outcome.rows for outcome in outcomes)
    for split in SPLITS:
        ids = [found["id"] for found in rows if found["split"] == split]
        assert ids
        assert ids == sorted(ids)
    assert len({found["id"] for found in rows}) == len(rows)
    assert [s.number for s in decision.shards if s.split == "train"] == list(
        range(sum(s.split == "train" for s in decision.shards))
    )


def test_no_speaker_is_in_two_splits(work: Place) -> None:
    outcomes = prepared(work, [recording(number) for number in range(100)])
    splits_of: dict[str, set[str]] = {}
    for found in rows_of(work, decided(work, outcomes)):
        splits_of.setdefault(found["speaker"], set()).add(found["split"])
    assert len(splits_of) == 10
    assert all(len(splits) == 1 for splits in splits_of.values())


@pytest.mark.parametrize("shard_bytes", [1, 5000, 5001, 1e9])
def test_shards_have_the_size_asked_for(work: Place, shard_bytes: float) -> None:
    outcomes = prepared(work, [recording(number) for number in range(60)])
    decision = decided(work, outcomes, shard_bytes)
    for split in SPLITS:
        sizes = [
            sum(len(r["audio"]) for r in copy_shard(s, work)) for s in decision.shards if s.split == split
        ]
        for size in sizes[:-1]:
            assert shard_bytes <= size < shard_bytes + 1000
        assert 0 < sizes[-1] < shard_bytes + 1000


def test_how_the_listing_is_cut_changes_no_shard(work: Place, tmp_path: Path) -> None:
    def shards(name: str, part_s: float) -> list[str]:
        place = work / name
        outcomes = prepared(place, [recording(number) for number in range(60)], part_s=part_s)
        decision = decided(place, outcomes)
        return [
            write_shard(tmp_path / name, "utterances", s.split, s.number, copy_shard(s, place)).sha256
            for s in decision.shards
        ]

    assert shards("few", 1e6) == shards("many", 7.0)


def test_the_first_of_equal_recordings_stays(work: Place) -> None:
    same = {f"r{number:04d}" for number in (3, 17, 42)}

    def prepare(utterance: Utterance):
        mark = fingerprint("the same" if utterance.id in same else utterance.id)
        yield row(utterance, fingerprint=mark)

    outcomes = prepared(work, [recording(number) for number in range(50)], prepare)
    decision = decided(work, outcomes)
    assert [reject.id for reject in decision.duplicates] == ["fake/r0017#0000", "fake/r0042#0000"]
    assert all("fake/r0003#0000" in reject.detail for reject in decision.duplicates)
    assert {reject.reason for reject in decision.duplicates} == {"duplicate"}
    assert len(rows_of(work, decision)) == 48


def test_hours_are_broken_down(work: Place) -> None:
    listed = [
        recording(0, speaker="1", language="te", duration_s=3600.0),
        recording(1, speaker="1", language="te", source="other", licence="CC-BY-4.0", duration_s=900.0),
        recording(2, speaker="2", language="ml", source="other", licence="CC0-1.0", duration_s=900.0),
    ]
    outcomes = prepared(work, listed, lambda u: iter([row(u)]), part_s=1e6)
    decision = decided(work, outcomes)
    assert decision.breakdown["language"] == {"ml": 0.25, "te": 1.25}
    assert decision.breakdown["source"] == {"fake": 1.0, "other": 0.5}
    assert decision.breakdown["speaker"] == {"fake/1": 1.0, "other/1": 0.25, "other/2": 0.25}
    assert sum(decision.breakdown["split"].values()) == sum(decision.hours.values()) == 1.5
    assert decision.licences == {"fake": "CC0-1.0", "other": "CC-BY-4.0, CC0-1.0"}


def test_a_damaged_part_is_named(work: Place) -> None:
    outcomes = prepared(work, [recording(0)])
    work.write_bytes(outcomes[0].path, b"damaged")
    with pytest.raises(CorpusError, match=r"parts/000000-\w+\.parquet is damaged .* build again"):
        decided(work, outcomes)


def test_work_of_other_settings_has_other_names(work: Place) -> None:
    """A late task of a killed build writes beside the next build's parts and shards, not over them."""
    listed = [recording(number) for number in range(3)]
    plans = [list_sources([ListedSource(listed)], 20.0, work, maker).parts[0] for maker in ("one", "other")]
    one, other = (make_part(plan, work, fake_prepare) for plan in plans)
    assert one.path != other.path
    assert one.num_bytes == work.size(one.path)
    assert decided(work, [one]).shards != decided(work, [other]).shards
