"""The same laws for a folder and for an object store that speaks real HTTP."""

import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs
import pytest

from paluku.cluster.ports import LOOPBACK, free_ports
from paluku.corpus.shards import Manifest, ShardSet, read_manifest, write_manifest, write_shard
from paluku.corpus.storage import Place
from paluku.errors import CorpusError, StorageError
from tests.fakes.object_store import bucket
from tests.unit.corpus.test_shards import token_row


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with bucket() as uri:
        yield uri


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place.of(tmp_path / "te")
    # Tests share the store: each has a folder of its own.
    return Place.of(request.getfixturevalue("store")) / request.node.name


@contextmanager
def no_file_larger_than(num_bytes: int) -> Iterator[None]:
    """A disk that is full: writing more fails as it does there, with an error of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_written_is_read(place: Place) -> None:
    data = bytes(range(256)) * 1000
    place.write_bytes("a/b.bin", data)
    assert place.read_bytes("a/b.bin") == data
    assert place.size("a/b.bin") == len(data)
    with place.open_input("a/b.bin") as file:
        file.seek(250)
        assert file.read(10) == data[250:260]


def test_a_second_write_replaces_the_first(place: Place) -> None:
    place.write_bytes("a", b"longer than the second")
    place.write_bytes("a", b"second")
    assert place.read_bytes("a") == b"second"


def test_names_are_relative_and_sorted(place: Place) -> None:
    for name in ("b.txt", "a.txt", "a.bin", "below/c.txt", "below/deeper/d.txt"):
        place.write_bytes(name, b"x")
    assert place.list() == ["a.bin", "a.txt", "b.txt"]
    assert place.list(suffix=".txt", recursive=True) == [
        "a.txt",
        "b.txt",
        "below/c.txt",
        "below/deeper/d.txt",
    ]
    assert place.list("below") == ["below/c.txt"]
    assert (place / "below").list(recursive=True) == ["c.txt", "deeper/d.txt"]


def test_what_is_not_there(place: Place) -> None:
    assert place.list() == []
    assert not place.exists("a")
    assert place.size("a") is None
    place.delete("a")
    place.delete_tree("below")
    with pytest.raises(CorpusError, match=r"te.*/a is missing"):
        place.read_bytes("a")


def test_a_removed_tree_takes_nothing_else(place: Place) -> None:
    for name in ("work/a", "work/below/b", "work2/c"):
        place.write_bytes(name, b"x")
    place.delete_tree("work")
    place.delete("work2/no such file")
    assert place.list(recursive=True) == ["work2/c"]


def test_a_writer_that_fails_leaves_what_was_there(place: Place) -> None:
    place.write_bytes("a", b"first")

    def fail() -> None:
        with place.writing("a") as sink:
            sink.write(b"half of the sec")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert place.read_bytes("a") == b"first"
    assert place.list() == ["a"]


def test_trouble_of_whoever_fills_a_file_is_not_the_files(place: Place) -> None:
    def fail() -> None:
        with place.writing("a"):
            raise OSError(22, "Invalid argument")

    with pytest.raises(OSError, match="Invalid argument"):
        fail()
    assert place.list() == []


def test_a_file_is_told_from_another_of_its_name(place: Place) -> None:
    place.write_bytes("a", b"one")
    place.write_bytes("below/b", b"x")
    before = place.stamps()
    assert before == {"a": place.stamp("a")}
    assert before["a"].num_bytes == 3
    place.write_bytes("a", b"other")
    assert place.stamp("a") != before["a"]
    assert (place.stamps("none"), place.stamp("none")) == ({}, None)


def test_a_link_to_its_own_parent_lists_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "speaker").mkdir()
    (tmp_path / "speaker" / "a.wav").touch()
    (tmp_path / "speaker" / "up").symlink_to(tmp_path)
    (tmp_path / "linked.wav").symlink_to(tmp_path / "speaker" / "a.wav")
    (tmp_path / "broken.wav").symlink_to(tmp_path / "nowhere")
    assert Place.of(tmp_path).list(recursive=True) == ["linked.wav", "speaker/a.wav"]


def test_a_name_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")).touch()
    with pytest.raises(CorpusError, match=r"/caf\\xe9\.wav: the name is not UTF-8; rename"):
        Place.of(tmp_path).list()


def test_length_and_hash_are_those_of_the_file(place: Place) -> None:
    with place.writing("a") as sink:
        for text in (b"one", b"", b"two"):
            sink.write(text)
    # sha256sum of "onetwo"
    assert sink.sha256 == "25b6746d5172ed6352966a013d93ac846e1110d5a25e8f183b5931f4688842a1"
    assert sink.num_bytes == 6


def test_a_place_travels_to_another_process(place: Place) -> None:
    place.write_bytes("below/a", b"x")
    there: Place = pickle.loads(pickle.dumps(place / "below"))
    assert there.read_bytes("a") == b"x"


@pytest.mark.parametrize("name", ["a b+c%20.wav", "పలుకు#1.wav", "what?.wav", "[1]&2.wav"])
def test_any_name_of_a_file_survives_its_uri(place: Place, name: str) -> None:
    (place / name).write_bytes(name, name.encode())
    assert Place.of((place / name).where).read_bytes(name) == name.encode()
    folder, below = Place.of_file((place / name / name).where)
    assert (below, folder.read_bytes(below)) == (name, name.encode())


def test_a_corpus_is_read_from_wherever_it_lies(place: Place) -> None:
    shard = write_shard(place, "tokens", "train", 0, (token_row(number) for number in range(70)))
    write_manifest(place, Manifest(kind="tokens", config_sha256="0" * 64, shards=(shard,)))
    tokens = ShardSet(place.where, "tokens", "train")
    tokens.verify()
    assert [row["id"] for row in tokens.rows([69, 0])] == ["row-69", "row-0"]
    assert read_manifest(place.where).rows() == 70
    place.write_bytes(shard.path, b"damaged")
    with pytest.raises(CorpusError, match=r"train-00000\.parquet has 7 bytes, its manifest says"):
        ShardSet(place.where, "tokens", "train")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    place = Place.of(tmp_path)
    with (
        no_file_larger_than(1000),
        pytest.raises(StorageError, match=r"/big cannot be written .*File too large.*free space"),
    ):
        place.write_bytes("big", bytes(10_000))
    assert list(tmp_path.iterdir()) == []
    place.write_bytes("big", bytes(10_000))


def test_a_full_disk_is_said_by_the_shard(tmp_path: Path) -> None:
    with (
        no_file_larger_than(300),
        pytest.raises(StorageError, match=r"train-00000\.parquet cannot be written"),
    ):
        write_shard(tmp_path, "tokens", "train", 0, [token_row(number) for number in range(64)])
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should go")
    with pytest.raises(StorageError, match=r"file/below/a cannot be written"):
        Place.of(tmp_path / "file" / "below").write_bytes("a", b"x")


def test_a_store_that_does_not_answer_is_said() -> None:
    (port,) = free_ports(1)
    uri = f"s3://k:s@corpora/te?scheme=http&endpoint_override={LOOPBACK}:{port}&region=us-east-1"
    options = pyarrow.fs.S3FileSystem(
        access_key="k",
        secret_key="s",
        endpoint_override=f"{LOOPBACK}:{port}",
        scheme="http",
        region="us-east-1",
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    place = Place(uri, options, "corpora/te", None)
    with pytest.raises(StorageError, match=r"^s3://corpora/te/a cannot be read"):
        place.read_bytes("a")
    with pytest.raises(StorageError, match=r"^s3://corpora/te/a cannot be written"):
        place.write_bytes("a", b"x")


def test_a_bucket_that_does_not_exist_is_said(store: str) -> None:
    with pytest.raises(StorageError, match=r"^s3://another-\d+/te/a cannot be written"):
        Place.of(store.replace("corpora", "another")).write_bytes("a", b"x")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(StorageError, match=r"^ftp://host/te cannot be opened .*s3:// or gs://"):
        Place.of("ftp://host/te")


def test_keys_in_a_uri_are_not_shown() -> None:
    place = Place.of("s3://AKEY:secret@corpora/te?region=us-east-1&endpoint_override=127.0.0.1:9")
    assert str(place / "below") == "s3://corpora/te/below"
    assert (place / "below").where.startswith("s3://AKEY:secret@corpora/te/below?region")
