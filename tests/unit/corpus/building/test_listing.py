import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.corpus.building.listing import (
    PART_ITEMS,
    TAIL_PARTS,
    TAIL_PIECES,
    Listing,
    cut,
    list_sources,
    read_part,
    tapered,
)
from paluku.corpus.storage import Place
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError
from tests.fakes.object_store import bucket
from tests.fakes.sources import ListedSource, recording

LENGTHS = st.lists(st.floats(min_value=0, max_value=400), max_size=60)


@given(LENGTHS, st.floats(min_value=1, max_value=600), st.integers(1, 9))
def test_parts_are_the_listing_cut_and_all_but_the_last_are_full(
    lengths: list[float], part_s: float, most: int
) -> None:
    listed = [recording(number, duration_s=length) for number, length in enumerate(lengths)]
    parts = list(cut(listed, part_s, most))
    assert [utterance for part in parts for utterance in part] == listed
    for part in parts[:-1]:
        seconds = [u.duration_s or 30.0 for u in part]
        assert len(part) == most or sum(seconds) >= part_s
        assert len(part) <= most
        assert sum(seconds[:-1]) < part_s


def test_a_stretch_counts_by_its_own_length() -> None:
    stretches = [recording(n, start_s=100.0, end_s=104.0, duration_s=0.0) for n in range(4)]
    assert [len(part) for part in cut(stretches, 8.0)] == [2, 2]


@given(LENGTHS, st.floats(min_value=1, max_value=600))
def test_the_last_parts_are_cut_smaller_and_nothing_else_changes(lengths: list[float], part_s: float) -> None:
    listed = [recording(number, duration_s=length) for number, length in enumerate(lengths)]
    whole = list(cut(listed, part_s))
    parts = list(tapered(whole, part_s))
    assert [utterance for part in parts for utterance in part] == listed
    kept = max(len(whole) - TAIL_PARTS, 0)
    assert parts[:kept] == whole[:kept]
    for part in parts[kept:]:
        assert sum(u.duration_s or 30.0 for u in part[:-1]) < part_s / TAIL_PIECES


def test_two_cores_end_together() -> None:
    listed = [recording(number, duration_s=30.0) for number in range(7 * 20)]
    seconds = [sum(u.duration_s for u in part) for part in tapered(cut(listed, 600.0), 600.0)]
    assert seconds == [600.0] * 3 + [150.0] * 16
    done_s = [0.0, 0.0]
    for length in seconds:
        done_s[done_s.index(min(done_s))] += length
    assert done_s[0] == done_s[1]


def test_a_part_is_read_as_it_was_listed(tmp_path: Path) -> None:
    work = Place.of(tmp_path)
    listed = [recording(number, text="చెప్పు\u2028 రా") for number in range(PART_ITEMS + 1)]
    listing = list_sources([ListedSource(listed)], 1e6, work)
    assert [part.items for part in listing.parts] == [PART_ITEMS, 1]
    assert [u for part in listing.parts for u in read_part(part, work)] == listed
    assert listing.parts[1].audio_s == 3.0


def test_the_hash_names_the_utterances_and_not_how_they_are_cut() -> None:
    listed = [recording(number) for number in range(40)]
    whole = list_sources([ListedSource(listed)], 1e6)
    halves = list_sources([ListedSource(listed[:20]), ListedSource(listed[20:])], 9.0)
    assert whole.sha256 == halves.sha256
    assert len(halves.parts) > len(whole.parts)
    swapped = [listed[1], listed[0], *listed[2:]]
    assert list_sources([ListedSource(swapped)], 1e6).sha256 != whole.sha256


def test_without_a_place_nothing_is_written_and_the_plans_are_the_same(tmp_path: Path) -> None:
    listed = [recording(number) for number in range(10)]
    assert list_sources([ListedSource(listed)], 6.0) == list_sources(
        [ListedSource(listed)], 6.0, Place.of(tmp_path)
    )
    assert len(list(tmp_path.rglob("*.jsonl"))) == 9  # one, and four in two pieces


def test_sources_are_summed_with_their_licences() -> None:
    spoken = {"path": None, "voice": "espeak/te", "text": "అవును", "source": "spoken", "duration_s": 0.0}
    listed = [recording(0), recording(1, licence="CC-BY-4.0"), recording(2, **spoken)]
    sources = list_sources([ListedSource(listed)], 60.0).sources
    assert sources["fake"].model_dump() == {
        "licences": ("CC0-1.0", "CC-BY-4.0"),
        "items": 2,
        "audio_s": 6.0,
        "unknown": 0,
    }
    assert (sources["spoken"].items, sources["spoken"].unknown) == (1, 1)


def test_an_id_that_comes_twice_is_named() -> None:
    twice: list[Utterance] = [recording(0), recording(1), recording(0)]
    with pytest.raises(CorpusError, match=r"^fake/r0000 is listed twice"):
        list_sources([ListedSource(twice)], 60.0)
    assert list_sources([ListedSource([recording(0), recording(0, source="other")])], 60.0).items == 2


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(CorpusError, match="nothing to build from"):
        list_sources([ListedSource([])], 60.0)


@pytest.mark.parametrize("where", ["path", "uri"])
def test_a_replaced_recording_makes_another_plan_of_its_part_alone(tmp_path: Path, where: str) -> None:
    folder, work = tmp_path / "in", Place.of(tmp_path / "work")
    folder.mkdir()
    paths = [folder / f"{number}.wav" for number in range(6)]
    for path in paths[:5]:
        path.write_bytes(b"sound")
    listed = [
        recording(number, path=str(path) if where == "path" else f"file://{path}")
        for number, path in enumerate(paths)
    ]

    def listing() -> Listing:
        return list_sources([ListedSource(listed)], 6.0, work)

    first = listing()
    assert listing() == first
    paths[5].write_bytes(b"put in place")  # it was missing
    second = listing()
    os.utime(paths[0], ns=(0, 0))  # of the same size, but later
    third = listing()
    assert len({first.sha256, second.sha256, third.sha256}) == 3
    assert [a == b for a, b in zip(first.parts, second.parts, strict=True)] == [True] * 5 + [False]
    assert [a == b for a, b in zip(second.parts, third.parts, strict=True)] == [False] + [True] * 5
    assert list(read_part(third.parts[0], work)) == listed[:1]


def test_a_store_is_asked_by_folder(tmp_path: Path) -> None:
    with bucket() as uri:
        place = Place.of(uri)
        place.write_bytes("in/a.wav", b"sound")
        listed = [
            recording(0, path=(place / "in/a.wav").where),
            recording(1, path=(place / "in/b.wav").where),
        ]
        first = list_sources([ListedSource(listed)], 1.0)
        assert list_sources([ListedSource(listed)], 1.0) == first
        place.write_bytes("in/b.wav", b"another")
        second = list_sources([ListedSource(listed)], 1.0)
    assert [a == b for a, b in zip(first.parts, second.parts, strict=True)] == [True, False]
