import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from paluku.corpus.sources import RecordingFolder, SpokenText, sentences_of
from paluku.corpus.turns import Turn
from paluku.errors import CorpusError


def record(path: Path, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(8000 * seconds), np.float32), 8000)


def listing(folder: Path, rows: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )


def row(number: int, source: str = "read", **more: object) -> dict[str, object]:
    about = {
        "path": f"{source}/{number}.flac",
        "source": source,
        "speaker": f"s{number % 3}",
        "licence": "CC0-1.0",
    }
    return about | {"duration_s": 10.0} | more


def test_a_plain_folder_is_searched_and_its_folders_are_speakers(tmp_path: Path) -> None:
    for name in ("sita/one.wav", "sita/deep/two.flac", "loose.OGG", "other.wav"):
        record(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no audio")
    found = list(RecordingFolder(tmp_path).utterances())
    assert {u.id: u.speaker for u in found} == {
        "sita/one.wav": "sita",
        "sita/deep/two.flac": "sita/deep",
        "loose.OGG": "loose.OGG",
        "other.wav": "other.wav",
    }
    assert {u.duration_s for u in found} == {1.0}
    assert all(u.path is not None and u.path.is_absolute() for u in found)


def test_a_broken_file_is_listed_for_the_worker_to_reject(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    assert [(u.id, u.duration_s) for u in RecordingFolder(tmp_path).utterances()] == [("broken.wav", 0.0)]


def test_a_manifest_says_what_a_recording_is(tmp_path: Path) -> None:
    listing(tmp_path, [row(7, text="  పలుకు ", language="te", note="of no interest"), row(8)])
    first, second = RecordingFolder(tmp_path).utterances()
    assert first.path == tmp_path / "read/7.flac"
    assert (first.text, first.language, first.speaker, first.licence) == ("పలుకు", "te", "s1", "CC0-1.0")
    assert (second.text, second.language) == (None, "und")


def test_each_source_is_capped_by_itself_and_the_choice_is_the_seeds(tmp_path: Path) -> None:
    listing(tmp_path, [row(n) for n in range(40)] + [row(n, "tale") for n in range(40)] + [row(0, "jfk")])

    def chosen(seed: int) -> list[str]:
        return [u.id for u in RecordingFolder(tmp_path, max_source_s=60, seed=seed).utterances()]

    assert Counter(name.split("/")[0] for name in chosen(0)) == {"read": 6, "tale": 6, "jfk": 1}
    assert chosen(0) == chosen(0)
    assert chosen(0) != chosen(1)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", r"manifest\.jsonl:2 is not JSON"),
        ('{"path": "a.wav", "source": "x", "speaker": "y"}', r"manifest\.jsonl:2: licence: Field required"),
        ("[]", r"manifest\.jsonl:2: "),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row(1)) + "\n" + line + "\n")
    with pytest.raises(CorpusError, match=complaint):
        list(RecordingFolder(tmp_path).utterances())


def test_a_missing_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="none does not exist"):
        list(RecordingFolder(tmp_path / "none").utterances())
    with pytest.raises(CorpusError, match="holds no recordings"):
        list(RecordingFolder(tmp_path).utterances())


def test_every_sentence_is_spoken_by_every_voice_in_turn() -> None:
    turns = [Turn("a?", "b.", "t", "CC0"), Turn("c?", "b.", "t", "CC0")]
    sentences = sentences_of(turns)
    assert sentences == [("a?", "CC0"), ("b.", "CC0"), ("c?", "CC0")]
    spoken = list(SpokenText(sentences, ["one", "two"], 6).utterances())
    assert sorted((u.text or "", u.voice or "") for u in spoken) == sorted(
        (text, voice) for text, _ in sentences for voice in ("one", "two")
    )
    assert len({u.id for u in spoken}) == 6
