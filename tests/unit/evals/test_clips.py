import itertools
import json
from collections import Counter
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku import audio
from paluku.corpus.shards import MANIFEST, SPLITS, Split
from paluku.errors import CorpusError, EvaluationError
from paluku.evals.clips import Candidate, Chosen, Wanted, choose, spread
from tests.fakes.folders import tone, utterance, write_folder
from tests.fakes.speech import speech_like

RATE_HZ = 16_000


def unread() -> NoReturn:
    raise AssertionError("nothing is read to choose an order")


def candidate(language: str, speaker: str, number: int) -> Candidate:
    return Candidate(f"{number}.wav", language, speaker, unread)


def write_recordings(folder: Path, seconds: dict[str, float]) -> Path:
    for seed, (name, length_s) in enumerate(seconds.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        audio.write_wav(folder / name, speech_like(seed, length_s), RATE_HZ)
    return folder


@given(
    st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 20)), min_size=1),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_any_beginning_is_even_and_depends_on_names_alone(
    names: set[tuple[str, str, int]], seed: int, random: object
) -> None:
    items = [candidate(*name) for name in names]
    ordered = spread(items, seed)
    assert sorted(ordered, key=str) == sorted(items, key=str)
    shuffled = list(items)
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    assert spread(shuffled, seed) == ordered
    for key in ("language", "speaker"):
        groups = {"language": lambda c: "", "speaker": lambda c: c.language}[key]
        for group in {groups(c) for c in items}:
            mine = [c for c in ordered if groups(c) == group]
            all_of = Counter(getattr(c, key) for c in mine)
            for most in range(1, len(mine) + 1):
                taken = Counter(getattr(c, key) for c in mine[:most])
                unfinished = [taken[value] for value, there in all_of.items() if taken[value] < there]
                # Who has more left has been asked as often as any other, at most one turn behind.
                assert all(count >= max(taken.values()) - 1 for count in unfinished)


def test_another_seed_gives_another_order() -> None:
    items = [candidate("te", "x", number) for number in range(20)]
    assert len({tuple(c.id for c in spread(items, seed)) for seed in range(3)}) == 3


def test_a_folder_without_a_manifest_gives_its_speakers_turns(tmp_path: Path) -> None:
    names = [f"{speaker}/{n}.wav" for speaker, n in itertools.product(("anu", "bala"), range(3))]
    write_recordings(tmp_path, dict.fromkeys(names, 1.5))
    first = choose(str(tmp_path), Wanted(4), RATE_HZ)
    assert Counter(clip.speaker for clip in first.clips) == {"anu": 2, "bala": 2}
    assert (first.offered, first.there, first.ignored) == (6, {"und": 6}, [])
    again = choose(str(tmp_path), Wanted(4), RATE_HZ)
    assert [clip.id for clip in again.clips] == [clip.id for clip in first.clips]
    assert again.data_hash == first.data_hash
    more = choose(str(tmp_path), Wanted(6), RATE_HZ)
    assert [clip.id for clip in more.clips][:4] == [clip.id for clip in first.clips]
    assert more.data_hash != first.data_hash


def test_a_manifest_says_language_and_text_and_the_rate_is_the_asked_one(tmp_path: Path) -> None:
    write_recordings(tmp_path, {"a.wav": 1.5, "b.wav": 1.5, "c.wav": 1.5})
    about = {"source": "s", "licence": "CC0-1.0", "speaker": "p"}
    lines = [
        {"path": "a.wav", "language": "te", "text": "నమస్కారం"},
        {"path": "b.wav", "language": "en"},
        {"path": "c.wav", "language": "ml"},
    ]
    text = "\n".join(json.dumps(about | line, ensure_ascii=False) for line in lines)
    (tmp_path / "manifest.jsonl").write_text(text, encoding="utf-8")
    found = choose(str(tmp_path), Wanted(9, languages=("te", "en")), 24_000)
    assert {clip.language: clip.text for clip in found.clips} == {"te": "నమస్కారం", "en": None}
    assert {clip.rate_hz for clip in found.clips} == {24_000}
    assert {len(clip.wave) for clip in found.clips} == {36_000}
    assert found.there == {"te": 1, "en": 1, "ml": 1}
    with pytest.raises(EvaluationError, match="has nothing in hi; there is en, ml, te"):
        choose(str(tmp_path), Wanted(9, languages=("hi",)), RATE_HZ)


def test_what_cannot_be_judged_is_left_out_with_its_reason_and_replaced(tmp_path: Path) -> None:
    write_recordings(tmp_path, {"short.wav": 0.5, "good.wav": 1.0, "long.wav": 25.0})
    audio.write_wav(tmp_path / "silent.wav", np.zeros(2 * RATE_HZ, np.float32), RATE_HZ)
    (tmp_path / "broken.wav").write_bytes(b"RIFF and nothing more")
    found = choose(str(tmp_path), Wanted(2), RATE_HZ)
    assert {clip.id: clip.seconds for clip in found.clips} == {"good.wav": 1.0, "long.wav": 20.0}
    every = choose(str(tmp_path), Wanted(9), RATE_HZ)
    assert {each.id: each.reason for each in every.ignored} == {
        "short.wav": "too_short",
        "silent.wav": "silent",
        "broken.wav": "broken",
    }


def test_the_text_of_what_was_cut_off_is_not_kept(tmp_path: Path) -> None:
    write_recordings(tmp_path, {"long.wav": 21.0})
    line = {"path": "long.wav", "source": "s", "licence": "l", "speaker": "p", "text": "all of it"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line))
    [clip] = choose(str(tmp_path), Wanted(1), RATE_HZ).clips
    assert clip.text is None


@pytest.mark.parametrize("split", SPLITS)
def test_utterances_give_the_split_that_is_asked_for(split: Split, tmp_path: Path) -> None:
    rows = [utterance(n, seconds=1.2, split=SPLITS[n % 3]) for n in range(6)]
    manifest = write_folder(tmp_path, "utterances", rows)
    assert (tmp_path / MANIFEST).is_file()
    found = choose(str(tmp_path), Wanted(9, split), 8_000)
    assert {clip.id for clip in found.clips} == {row["id"] for row in rows if row["split"] == split}
    assert {(clip.language, clip.text) for clip in found.clips} == {("te", "నమస్కారం")}
    assert {len(clip.wave) for clip in found.clips} == {9_600}
    assert found.data_hash == manifest.hash


def test_nothing_to_judge_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none does not exist; give an existing folder"):
        choose(str(tmp_path / "none"), Wanted(1), RATE_HZ)
    write_folder(tmp_path / "built", "utterances", [utterance(0, split="train")])
    with pytest.raises(EvaluationError, match="no rows in split 'test'; there are some in train: choose"):
        choose(str(tmp_path / "built"), Wanted(1), RATE_HZ)
    audio.write_wav(tmp_path / "wavs" / "a.wav", tone(0.5)[:, 0], RATE_HZ)
    with pytest.raises(EvaluationError, match=r"has no clip to judge \(1 too_short\)"):
        choose(str(tmp_path / "wavs"), Wanted(1), RATE_HZ)


def test_a_row_whose_sound_is_damaged_is_left_out(tmp_path: Path) -> None:
    rows = [utterance(n, seconds=1.2, split="test") for n in range(2)]
    write_folder(tmp_path, "utterances", [rows[0], rows[1] | {"audio": b"fLaC and nothing more"}])
    found = choose(str(tmp_path), Wanted(9), RATE_HZ)
    assert [clip.id for clip in found.clips] == [rows[0]["id"]]
    assert [(each.id, each.reason) for each in found.ignored] == [(rows[1]["id"], "broken")]


def test_the_data_have_one_name_at_any_rate_and_another_when_a_file_changes(tmp_path: Path) -> None:
    write_recordings(tmp_path, {"a.wav": 1.5, "b.wav": 1.5})
    names = {choose(str(tmp_path), Wanted(2), rate_hz).data_hash for rate_hz in (RATE_HZ, 24_000)}
    write_recordings(tmp_path, {"a.wav": 1.6})
    assert len(names) == 1
    assert choose(str(tmp_path), Wanted(2), RATE_HZ).data_hash not in names


def test_each_taken_clip_is_a_step(tmp_path: Path) -> None:
    steps: list[Chosen | None] = []
    write_recordings(tmp_path, {"a.wav": 1.0, "b.wav": 1.0, "c.wav": 0.5})
    choose(str(tmp_path), Wanted(9), RATE_HZ, lambda: steps.append(None))
    assert len(steps) == 2
