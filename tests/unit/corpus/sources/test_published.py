"""Corpora that are published as archives: each on a small tree of its true layout."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs
from pydantic import TypeAdapter

from paluku.corpus.sources.config import SourceConfig, open_source
from paluku.corpus.sources.librispeech import SHA256, archive_of
from paluku.corpus.sources.port import Source
from paluku.corpus.sources.tree import Tree
from paluku.corpus.storage import Place
from paluku.errors import CorpusError
from tests.unit.corpus.sources import trees

SOURCE = TypeAdapter(SourceConfig)


def source(kind: str, folder: object, **more: object) -> Source:
    return open_source(SOURCE.validate_python({"kind": kind, "folder": str(folder)} | more))


def test_slr66(tmp_path: Path) -> None:
    trees.slr66(tmp_path)
    listed = trees.by_id(source("slr66", tmp_path))
    assert list(listed) == ["tef_00433_00011445523", "tef_02001_00000000001", "tem_01523_00123456789"]
    first, second, third = listed.values()
    assert (first.text, second.text) == ("పలుకు తేనెల తల్లి", "రెండు")
    assert (first.speaker, third.speaker) == ("slr66_tef_00433", "slr66_tem_01523")
    assert (first.gender, third.gender) == ("female", "male")
    assert (first.language, first.source, first.licence) == ("te", "slr66", "CC-BY-SA-4.0")
    assert first.duration_s == 0.5
    assert len(trees.by_id(source("slr66", tmp_path, genders=["male"]))) == 1


def test_slr66_with_the_index_beside_the_archives(tmp_path: Path) -> None:
    trees.slr66(tmp_path)
    for gender in ("female", "male"):
        (tmp_path / f"te_in_{gender}/line_index.tsv").rename(tmp_path / f"line_index_{gender}.tsv")
    assert len(trees.by_id(source("slr66", tmp_path))) == 3


def test_slr66_out_of_its_zips(tmp_path: Path) -> None:
    trees.slr66(tmp_path / "made")
    for gender in ("female", "male"):
        shutil.make_archive(str(tmp_path / f"te_in_{gender}"), "zip", tmp_path / f"made/te_in_{gender}")
    assert len(trees.by_id(source("slr66", tmp_path))) == 3


def test_ljspeech(tmp_path: Path) -> None:
    trees.ljspeech(tmp_path)
    listed = trees.by_id(source("ljspeech", tmp_path))
    assert {name: u.text for name, u in listed.items()} == {
        "LJ001-0001": "Printed in fourteen sixty-five",
        "LJ001-0002": 'in being "comparatively" modern.',
    }
    assert {(u.speaker, u.gender, u.language, u.licence) for u in listed.values()} == {
        ("ljspeech", "female", "en", "LicenseRef-public-domain")
    }


def test_librispeech(tmp_path: Path) -> None:
    trees.librispeech(tmp_path)
    listed = trees.by_id(source("librispeech", tmp_path, subsets=["dev-clean", "test-clean"]))
    assert list(listed) == ["60-121082-0000", "84-121123-0000", "84-121123-0001", "8297-275154-0000"]
    reader = listed["84-121123-0000"]
    assert (reader.text, reader.speaker, reader.gender) == ("GO DO YOU HEAR", "librispeech_84", "female")
    assert (listed["60-121082-0000"].gender, reader.licence, reader.language) == ("male", "CC-BY-4.0", "en")
    assert len(trees.by_id(source("librispeech", tmp_path, subsets=["test-clean"]))) == 1


def test_every_subset_of_librispeech_has_its_archive() -> None:
    for subset in SHA256:
        assert archive_of(subset).url == f"https://www.openslr.org/resources/12/{subset}.tar.gz"


def test_vctk(tmp_path: Path) -> None:
    trees.vctk(tmp_path / "VCTK-Corpus-0.92")
    listed = trees.by_id(source("vctk", tmp_path))
    assert list(listed) == ["p225_001", "p225_002", "p315_001", "s5_001"]
    assert (listed["p225_001"].text, listed["p315_001"].text) == ("Please call Stella, 001.", None)
    assert {u.speaker: u.gender for u in listed.values()} == {
        "vctk_p225": "female",
        "vctk_p315": "male",
        "vctk_s5": "male",
    }
    assert listed["s5_001"].licence == "CC-BY-4.0"
    assert list(trees.by_id(source("vctk", tmp_path, microphone="mic2"))) == [
        "p225_001",
        "p225_002",
        "s5_001",
    ]


def test_common_voice(tmp_path: Path) -> None:
    trees.common_voice(tmp_path)
    listed = trees.by_id(source("common_voice", tmp_path, splits=["train", "validated"]))
    assert list(listed) == ["common_voice_te_3", "common_voice_te_1", "common_voice_te_2"]
    first, second, third = listed.values()
    # Neither a quote nor a separator of Unicode ends a field or a line.
    assert (first.text, second.text) == ("మీరు ఎలా\u2028ఉన్నారు?", '"నమస్కారం')
    assert [u.gender for u in listed.values()] == ["female", "male", None]
    assert (first.speaker, first.licence, first.language) == (f"common_voice_{'a' * 16}", "CC0-1.0", "te")
    assert [u.duration_s for u in (first, second, third)] == [1.5, 1.501, 1.502]


def test_common_voice_out_of_its_archive(tmp_path: Path) -> None:
    trees.common_voice(tmp_path / "made", durations=False)
    name = "cv-corpus-23.0-2025-09-05-te.tar.gz"
    with tarfile.open(tmp_path / name, "w:gz") as archive:
        archive.add(tmp_path / "made/cv-corpus-23.0-2025-09-05", "cv-corpus-23.0-2025-09-05")
    shutil.rmtree(tmp_path / "made")
    listed = trees.by_id(source("common_voice", tmp_path, archive=name))
    assert {u.duration_s for u in listed.values()} == {0.5}


def test_the_unpacked_folder_itself_may_be_given(tmp_path: Path) -> None:
    trees.vctk(tmp_path / "VCTK")
    trees.librispeech(tmp_path)
    trees.ljspeech(tmp_path)
    assert len(trees.by_id(source("vctk", tmp_path / "VCTK"))) == 4
    assert len(trees.by_id(source("librispeech", tmp_path / "LibriSpeech", subsets=["dev-clean"]))) == 3
    assert len(trees.by_id(source("ljspeech", tmp_path / "LJSpeech-1.1"))) == 2
    with pytest.raises(CorpusError, match=r"test-other holds no transcripts; fetch .*test-other"):
        list(source("librispeech", tmp_path / "LibriSpeech", subsets=["test-other"]).iterate())


def test_a_tree_in_a_store(tmp_path: Path) -> None:
    trees.slr66(tmp_path)
    tree = Tree(Place("s3://bucket/te?region=x", fs.LocalFileSystem(), str(tmp_path), None))
    assert tree.has("te_in_male/line_index.tsv")
    assert (tree.holds("te_in_male"), tree.holds("te_in")) == (True, False)
    assert tree.files("te_in_male", ".wav") == ["te_in_male/tem_01523_00123456789.wav"]
    assert (tree / "te_in_male").path("a 1.wav") == "s3://bucket/te/te_in_male/a%201.wav?region=x"
    assert tree.duration_s("te_in_male/tem_01523_00123456789.wav") == 0


LACKS = {
    "slr66": "te_in_female.zip",
    "ljspeech": "LJSpeech-1.1.tar.bz2",
    "librispeech": "train-clean-100.tar.gz",
    "vctk": "VCTK-Corpus-0.92.zip",
}


@pytest.mark.parametrize("kind", LACKS)
def test_what_is_not_there_says_from_where_it_can_be_had(tmp_path: Path, kind: str) -> None:
    with pytest.raises(
        CorpusError, match=rf"set download: true, or put https://.*/{LACKS[kind]} there by hand"
    ):
        list(source(kind, tmp_path).iterate())


def test_common_voice_that_is_not_there_is_fetched_by_hand(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no validated\.tsv"):
        list(source("common_voice", tmp_path).iterate())
    with pytest.raises(CorpusError, match=r"put https://datacollective\.mozilla.* by hand as .*te\.tar\.gz"):
        list(source("common_voice", tmp_path, archive="te.tar.gz").iterate())


Break = Callable[[Path], None]


def rewritten(name: str, old: str, new: str) -> Break:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes().decode()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new).encode())

    return change


def cp1252(name: str) -> Break:
    return lambda folder: (folder / name).write_bytes("é".encode("cp1252")) and None


CV = "cv-corpus-23.0-2025-09-05/te"
BROKEN: list[tuple[str, Callable[[Path], None], Break, str]] = [
    (
        "slr66",
        trees.slr66,
        rewritten("te_in_female/line_index.tsv", "\t\t", " "),
        r"line_index\.tsv:2 is not",
    ),
    ("slr66", trees.slr66, rewritten("te_in_male/line_index.tsv", "tem_", "x_"), r"line_index\.tsv:1 is not"),
    ("slr66", trees.slr66, cp1252("te_in_male/line_index.tsv"), r"te_in_male/line_index\.tsv is not UTF-8"),
    (
        "ljspeech",
        trees.ljspeech,
        rewritten("LJSpeech-1.1/metadata.csv", "|Printed in f", "Printed in f"),
        r":2 has 2",
    ),
    (
        "librispeech",
        trees.librispeech,
        rewritten("LibriSpeech/SPEAKERS.TXT", "| F |", "| ? |"),
        r"TXT:4 is not",
    ),
    (
        "librispeech",
        trees.librispeech,
        rewritten(
            "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt", "84-121123-0001 BUT", "85-121123-0001 BUT"
        ),
        r"84-121123\.trans\.txt:2 is no sentence of a reader",
    ),
    (
        "vctk",
        trees.vctk,
        rewritten("speaker-info.txt", "p315  18  M", "p315  18  "),
        r"speaker-info\.txt:3 is not",
    ),
    ("vctk", trees.vctk, rewritten("speaker-info.txt", "p315", "p316"), r"does not tell of p315"),
    (
        "common_voice",
        trees.common_voice,
        rewritten(f"{CV}/validated.tsv", "\tpath\t", "\tfile\t"),
        r"column path",
    ),
    (
        "common_voice",
        trees.common_voice,
        rewritten(f"{CV}/validated.tsv", "పలుకు\t", "పలుకు"),
        r"tsv:4 has 12 fields",
    ),
    (
        "common_voice",
        trees.common_voice,
        rewritten(f"{CV}/validated.tsv", "b" * 128, ""),
        r"tsv:3 lacks client_id",
    ),
    (
        "common_voice",
        trees.common_voice,
        rewritten(f"{CV}/validated.tsv", "\tte\t", "\thi\t"),
        r"tsv:2 is hi, not te",
    ),
    (
        "common_voice",
        trees.common_voice,
        rewritten(f"{CV}/clip_durations.tsv", "1501", "x"),
        r"durations\.tsv:3",
    ),
]


@pytest.mark.parametrize(("kind", "make", "damage", "complaint"), BROKEN)
def test_broken_metadata_is_named_by_file_and_line(
    tmp_path: Path, kind: str, make: Callable[[Path], None], damage: Break, complaint: str
) -> None:
    make(tmp_path)
    damage(tmp_path)
    subsets = {"subsets": ["dev-clean"]} if kind == "librispeech" else {}
    with pytest.raises(CorpusError, match=complaint):
        list(source(kind, tmp_path, **subsets).iterate())
