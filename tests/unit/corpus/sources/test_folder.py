"""Plain folders, manifests, and a part of either."""

import json
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest

from paluku.config import resolve
from paluku.corpus.media import decode
from paluku.corpus.sources.config import open_source
from paluku.corpus.sources.folder import FolderConfig
from paluku.corpus.sources.manifest import ManifestConfig
from paluku.corpus.utterance import Utterance
from paluku.errors import ConfigError, CorpusError
from tests.unit.corpus.sources import trees


def row(number: int, source: str = "read", **more: object) -> dict[str, object]:
    about = {
        "path": f"{source}/{number}.flac",
        "source": source,
        "speaker": f"s{number % 3}",
        "licence": "CC0-1.0",
    }
    return about | {"duration_s": 10.0} | more


def manifest(folder: Path, rows: list[dict[str, object]]) -> ManifestConfig:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    trees.text(folder / "manifest.jsonl", lines)
    return ManifestConfig(folder=str(folder))


def listing(config: FolderConfig | ManifestConfig) -> list[Utterance]:
    return list(open_source(config).iterate())


def test_a_subfolder_is_a_speaker_and_a_file_at_the_top_is_its_own(tmp_path: Path) -> None:
    for name in ("sita/one.wav", "sita/deep/two.flac", "loose.OGG", "other.wav"):
        trees.sound(tmp_path / name)
    (tmp_path / "film.mp4").write_bytes(b"not readable, but listed: the worker says why")
    (tmp_path / "notes.txt").write_text("no audio")
    listed = trees.by_id(
        open_source(FolderConfig(folder=str(tmp_path), name="mine", language="te", licence="MIT"))
    )
    assert {u.id: u.speaker for u in listed.values()} == {
        "sita/one.wav": "sita",
        "sita/deep/two.flac": "sita",
        "loose.OGG": "loose.OGG",
        "other.wav": "other.wav",
        "film.mp4": "film.mp4",
    }
    assert list(listed) == sorted(listed)
    assert {u.id: u.duration_s for u in listed.values()} == dict.fromkeys(listed, 0.5) | {"film.mp4": 0.0}
    assert {(u.source, u.language, u.licence) for u in listed.values()} == {("mine", "te", "MIT")}


def test_chapters_are_no_speakers_unless_it_is_said(tmp_path: Path) -> None:
    for name in ("reader1/book/chapter0/a.wav", "reader1/book/chapter1/a.wav", "reader2/a.wav"):
        trees.sound(tmp_path / name)
    found = [
        [u.speaker for u in listing(FolderConfig(folder=str(tmp_path), speaker_depth=n))] for n in (1, 2)
    ]
    assert found == [["reader1", "reader1", "reader2"], ["reader1/book", "reader1/book", "reader2"]]


def test_the_settings_of_a_folder_are_its_manifests_defaults(tmp_path: Path) -> None:
    bare: dict[str, object] = {"path": "a.wav", "speaker": "s"}
    manifest(tmp_path, [bare, row(1, language="te"), {**bare, "path": "b.wav", "licence": None}])
    with pytest.raises(CorpusError, match=r"manifest\.jsonl:1: source: Field required"):
        listing(FolderConfig(folder=str(tmp_path)))
    listed = listing(FolderConfig(folder=str(tmp_path), name="mine", language="hi", licence="MIT"))
    assert [(u.id, u.source, u.language, u.licence) for u in listed] == [
        ("a.wav", "mine", "hi", "MIT"),
        ("b.wav", "mine", "hi", "MIT"),
        ("read/1.flac", "read", "te", "CC0-1.0"),
    ]


def test_a_long_file_is_listed_as_stretches_that_join(tmp_path: Path) -> None:
    trees.sound(tmp_path / "long.wav", seconds=7.0)
    trees.sound(tmp_path / "short.wav", seconds=3.0)
    listed = listing(FolderConfig(folder=str(tmp_path), longest_s=3.0))
    assert [u.id for u in listed] == ["long.wav@00000.0", "long.wav@00002.3", "long.wav@00004.7", "short.wav"]
    assert [u.end_s for u in listed[:3]] == [listed[1].start_s, listed[2].start_s, None]
    assert sum(len(decode(u, 16_000).wave) for u in listed) == 10 * 16_000


def test_a_folder_may_be_given_by_uri(tmp_path: Path) -> None:
    folder = tmp_path / "తెలుగు సంపుటి"
    trees.sound(folder / "సీత 1/ఒకటి 100%.wav")
    (utterance,) = listing(FolderConfig(folder=f"file://{quote(str(folder))}"))
    assert (utterance.id, utterance.speaker) == ("సీత 1/ఒకటి 100%.wav", "సీత 1")
    assert len(decode(utterance, 8000).wave) == 4000
    trees.text(folder / "manifest.jsonl", json.dumps(row(1, path="సీత 1/ఒకటి 100%.wav")))
    (described,) = listing(FolderConfig(folder=f"file://{quote(str(folder))}"))
    assert described.speaker == "s1"
    assert len(decode(described, 8000).wave) == 4000


def test_a_missing_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="none does not exist"):
        listing(FolderConfig(folder=str(tmp_path / "none")))
    with pytest.raises(CorpusError, match="holds no recordings"):
        listing(FolderConfig(folder=str(tmp_path)))
    with pytest.raises(ConfigError, match="folder: recordings must be absolute"):
        resolve(FolderConfig, {"folder": "recordings"}, "a.yaml")


def test_a_manifest_says_what_a_recording_is(tmp_path: Path) -> None:
    rows = [
        row(8),
        row(7, text="పలుకు", language="te", gender="female", note="of no interest"),
        row(9, path="s3://bucket/long.flac", start_s=2.5, end_s=4.0),
        row(9, path="/far/away.flac", id="named"),
    ]
    named, first, second, third = listing(manifest(tmp_path, rows))
    assert (named.id, named.path) == ("named", "/far/away.flac")
    assert (first.path, first.text, first.language) == (str(tmp_path / "read/7.flac"), "పలుకు", "te")
    assert (first.speaker, first.gender, first.licence) == ("s1", "female", "CC0-1.0")
    assert (second.text, second.language, second.id) == (None, "und", "read/8.flac")
    assert (third.id, third.path) == ("s3://bucket/long.flac@2.500", "s3://bucket/long.flac")
    assert (third.start_s, third.end_s) == (2.5, 4.0)
    assert listing(FolderConfig(folder=str(tmp_path))) == [named, first, second, third]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", r"manifest\.jsonl:2 is not JSON"),
        ('{"path": "a.wav", "source": "x", "speaker": "y"}', r"manifest\.jsonl:2: licence: Field required"),
        ("[]", r"manifest\.jsonl:2: "),
        (json.dumps(row(2, start_s=3, end_s=2)), r"manifest\.jsonl:2: .*ends at 2.0 s, before its start"),
        (json.dumps(row(1)), r"manifest\.jsonl:2 repeats read/1\.flac of read"),
        (json.dumps(row(2)).replace("10.0", "1e999"), r"manifest\.jsonl:2: duration_s: .*finite"),
        (json.dumps(row(2)).replace("10.0", "9" * 400), r"manifest\.jsonl:2: duration_s: "),
        (json.dumps(row(2)).replace("10.0", "9" * 5000), r"manifest\.jsonl:2 is not JSON"),
        (json.dumps(row(2, path="a\0.flac")), r"manifest\.jsonl:2: path: it must name a file"),
        (json.dumps(row(2, path="")), r"manifest\.jsonl:2: path: it must name a file"),
        (json.dumps(row(2, path="\ud800.flac")), r"manifest\.jsonl:2: path: "),
        (json.dumps(row(2, text="\ud800")), r"manifest\.jsonl:2: text: "),
        (json.dumps(row(2, speaker="\udfff")), r"manifest\.jsonl:2: speaker: "),
        (
            json.dumps(row(2, path="a/../../b.wav")),
            r"manifest\.jsonl:2: path: it leaves the manifest's folder",
        ),
        ("[" * 100_000, r"manifest\.jsonl:2 is not JSON"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row(1)) + "\n" + line + "\n")
    with pytest.raises(CorpusError, match=complaint):
        listing(ManifestConfig(folder=str(tmp_path)))


def test_ids_are_unique_in_their_source_and_genders_are_of_one_spelling(tmp_path: Path) -> None:
    rows = [row(1, source, id="1") for source in ("tale", "read")]
    rows += [row(n, gender=said) for n, said in enumerate(("Male", "FEMALE", "default"), 2)]
    listed = listing(manifest(tmp_path, [*rows, row(5, path="a/../b.wav")]))
    assert [(u.id, u.source) for u in listed[:2]] == [("1", "read"), ("1", "tale")]
    assert [u.gender for u in listed] == [None, None, None, "male", "female", None]


def test_a_manifest_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"manifest\.jsonl is missing"):
        listing(ManifestConfig(folder=str(tmp_path)))
    with pytest.raises(CorpusError, match=r"manifest\.jsonl lists nothing"):
        listing(manifest(tmp_path, []))


def test_each_source_is_capped_by_itself_and_the_choice_is_the_seeds(tmp_path: Path) -> None:
    config = manifest(
        tmp_path, [row(n) for n in range(40)] + [row(n, "tale") for n in range(40)] + [row(0, "jfk")]
    )

    def chosen(seed: int) -> list[str]:
        return [u.id for u in listing(config.model_copy(update={"max_source_s": 60.0, "seed": seed}))]

    assert Counter(name.split("/")[0] for name in chosen(0)) == {"read": 6, "tale": 6, "jfk": 1}
    assert chosen(0) == chosen(0) == sorted(chosen(0))
    assert chosen(0) != chosen(1)
