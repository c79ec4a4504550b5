"""Against a real HTTP server on this machine that breaks, lies and forgets."""

import hashlib
import io
import random
import re
import resource
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paluku.corpus.download import TRIES, Archive, NotFetched, fetch, provide, unpack
from paluku.errors import CorpusError, StorageError

CONTENT = bytes(range(256)) * 4000  # a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What it serves, how it misbehaves, and what it was asked."""

    content: bytes = CONTENT
    etag: str = '"one"'
    breaks_after: list[int] = field(
        default_factory=list
    )  # bytes sent before each of the next connections ends
    statuses: list[int] = field(default_factory=list)  # answers of the next requests
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def archive(self, **more: object) -> Archive:
        return Archive.model_validate(
            {"url": self.url, "name": "a.bin", "holds": "a", "checksum": SHA256} | more
        )


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            if server.statuses:
                self.send_error(server.statuses.pop(0))
                return
            begin = int(asked[6:-1]) if asked and server.ranges else 0
            if self.headers.get("If-Range", server.etag) != server.etag:
                begin = 0
            if begin >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return
            body = server.content[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", server.etag)
            if begin:
                self.send_header(
                    "Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}"
                )
            self.end_headers()
            self.wfile.write(body[: server.breaks_after.pop(0)] if server.breaks_after else body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/a.bin"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


def no_sleep(_: float) -> None:
    pass


def test_a_file_appears_whole_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    path = fetch(server.archive(size_bytes=len(CONTENT)), tmp_path / "deep", sleep=no_sleep)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["a.bin"]
    assert server.asked == [None]


def test_a_connection_that_breaks_is_continued_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.breaks_after = [300_000, 200_000, 1]
    pauses: list[float] = []
    path = fetch(server.archive(), tmp_path, sleep=pauses.append)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-", "bytes=500001-"]
    assert len(pauses) == 3


def test_more_breaks_than_tries_do_not_matter_while_bytes_arrive(server: Server, tmp_path: Path) -> None:
    server.breaks_after = [1000] * (3 * TRIES)
    assert fetch(server.archive(), tmp_path, sleep=no_sleep).read_bytes() == CONTENT


def test_a_later_run_continues_what_a_killed_one_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.partial").write_bytes(CONTENT[:400_000])
    assert fetch(server.archive(), tmp_path, sleep=no_sleep).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"]


def test_a_partial_file_that_is_whole_needs_no_byte_more(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.partial").write_bytes(CONTENT)
    assert fetch(server.archive(), tmp_path, sleep=no_sleep).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_one_that_is_too_long_is_begun_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.partial").write_bytes(CONTENT + b"more")
    assert fetch(server.archive(), tmp_path, sleep=no_sleep).read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.ranges, server.breaks_after = False, [300_000]
    assert fetch(server.archive(), tmp_path, sleep=no_sleep).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_file_that_changes_meanwhile_is_never_a_mixture(server: Server, tmp_path: Path) -> None:
    server.breaks_after = [300_000]

    def change(_: float) -> None:
        server.content, server.etag = CONTENT[::-1], '"two"'

    assert fetch(server.archive(checksum=None), tmp_path, sleep=change).read_bytes() == CONTENT[::-1]


def test_wrong_bytes_are_fetched_once_more_and_then_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.partial").write_bytes(b"?" * 400_000)
    assert fetch(server.archive(), tmp_path, sleep=no_sleep).read_bytes() == CONTENT
    (tmp_path / "a.bin").unlink()
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(
        CorpusError, match=rf"{server.url} has the sha256 \w+, not {SHA256}; fetch it elsewhere"
    ):
        fetch(server.archive(), tmp_path, sleep=no_sleep)
    with pytest.raises(CorpusError, match="has 1024000 bytes, not 7"):
        fetch(server.archive(checksum=None, size_bytes=7), tmp_path, sleep=no_sleep)
    assert not list(tmp_path.iterdir())


def test_other_checksums_are_known_too(server: Server, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert fetch(server.archive(checksum=md5, algorithm="md5"), tmp_path, sleep=no_sleep).exists()


def test_a_busy_server_is_waited_for_longer_each_time(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429, 500]
    pauses: list[float] = []
    assert fetch(server.archive(), tmp_path, sleep=pauses.append).exists()
    assert pauses == [2, 4, 8]
    server.statuses = [503] * TRIES
    (tmp_path / "a.bin").unlink()
    with pytest.raises(CorpusError, match="cannot be fetched \\(HTTP 503\\)"):
        fetch(server.archive(), tmp_path, sleep=no_sleep)


def test_a_refusal_is_final(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(
        CorpusError, match=r"is refused \(HTTP 404\); fetch it elsewhere and put it at .*a\.bin"
    ):
        fetch(server.archive(), tmp_path, sleep=no_sleep)
    assert len(server.asked) == 1


def test_without_a_network_the_url_and_the_place_are_named(tmp_path: Path) -> None:
    with serving(Server()) as server:
        archive = server.archive()
    pauses: list[float] = []
    wanted = f"{re.escape(archive.url)} cannot be fetched .* put it at {re.escape(str(tmp_path / 'a.bin'))}"
    with pytest.raises(CorpusError, match=wanted):
        fetch(archive, tmp_path, sleep=pauses.append)
    assert len(pauses) == TRIES - 1


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_no_trouble_of_the_network(server: Server, tmp_path: Path) -> None:
    pauses: list[float] = []
    with (
        files_of_at_most(400_000),
        pytest.raises(StorageError, match=r"a\.bin\.partial cannot be written .*free space"),
    ):
        fetch(server.archive(), tmp_path, sleep=pauses.append)
    assert (len(server.asked), pauses) == (1, [])
    assert fetch(server.archive(), tmp_path, sleep=no_sleep).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file cannot be written"):
        fetch(server.archive(), tmp_path / "file", sleep=no_sleep)
    (tmp_path / "archive").write_bytes(tarred())
    with pytest.raises(StorageError, match="file cannot be written"):
        unpack(tmp_path / "archive", tmp_path / "file")
    assert not server.asked


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_full_disk_is_no_trouble_of_the_archive(kind: str, tmp_path: Path) -> None:
    content = zipped(content=CONTENT) if kind == "zip" else tarred(content=CONTENT)
    (tmp_path / "archive").write_bytes(content)
    with files_of_at_most(400_000), pytest.raises(StorageError, match=r"unpacked into .*free space"):
        unpack(tmp_path / "archive", tmp_path / "into")


def tarred(
    name: str = "top/a.txt", *, link: str | None = None, content: bytes = b"abc", mode: str = "w:gz"
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        member = tarfile.TarInfo(name)
        if link is None:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        else:
            member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)
    return buffer.getvalue()


def zipped(name: str = "top/a.txt", content: bytes = b"abc", compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def changed(content: bytes, place: int, to: bytes) -> bytes:
    return content[:place] + to + content[place + len(to) :]


def encrypted() -> bytes:
    """By its flags, in the local header and the directory."""
    content = zipped()
    content = changed(content, 6, b"\x01")
    return changed(content, content.index(b"PK\x01\x02") + 8, b"\x01")


def compressed_by_nobody() -> bytes:
    content = changed(zipped(), 8, b"\x63")
    return changed(content, content.index(b"PK\x01\x02") + 10, b"\x63")


NOISE = random.Random(1).randbytes(300_000)  # incompressible: a changed byte is a changed byte of a member
NOISY = {mode: tarred(content=NOISE, mode=mode) for mode in ("w:gz", "w:xz", "w:bz2")}
DEFLATED = zipped(content=bytes(1000), compression=zipfile.ZIP_DEFLATED)
LZMA = zipped(content=bytes(1000), compression=zipfile.ZIP_LZMA)
BAD = {
    "gz": changed(NOISY["w:gz"], 150_000, b"????"),
    "xz": changed(NOISY["w:xz"], 150_000, b"????"),
    "bz2": changed(NOISY["w:bz2"], 150_000, b"????"),
    "zip": changed(DEFLATED, len("top/a.txt") + 30, b"\xff\xff\xff"),
    "zip, lzma": changed(LZMA, len("top/a.txt") + 30, b"\xff" * 12),
    "gz, cut in its checksum": NOISY["w:gz"][:-6],
}


@pytest.mark.parametrize("content", [tarred(), zipped()])
def test_an_archive_is_unpacked_below_its_folder(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    unpack(tmp_path / "archive", tmp_path / "into")
    assert (tmp_path / "into/top/a.txt").read_bytes() == b"abc"


@pytest.mark.parametrize(
    "content",
    [tarred("../escaped"), zipped("../escaped"), zipped("/escaped"), tarred("link", link="/etc/passwd")],
)
def test_a_member_that_would_lie_elsewhere_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(CorpusError, match="unsafe member"):
        unpack(tmp_path / "archive", tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())


@pytest.mark.parametrize(
    "content", [b"no archive", tarred()[:40], zipped()[:-10]], ids=["none", "tar", "zip"]
)
def test_a_damaged_archive_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(CorpusError, match="archive cannot be unpacked"):
        unpack(tmp_path / "archive", tmp_path / "into")


@pytest.mark.parametrize("name", BAD)
def test_a_byte_that_changed_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(BAD[name])
    with pytest.raises(CorpusError, match=r"(?s)archive cannot be unpacked .*remove it and fetch it again"):
        unpack(tmp_path / "archive", tmp_path / "into")


@pytest.mark.parametrize("content", [encrypted(), compressed_by_nobody()])
def test_an_archive_that_nobody_here_can_read_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(CorpusError, match="without a password in its place"):
        unpack(tmp_path / "archive", tmp_path / "into")


def test_a_look_fetches_and_unpacks_nothing(server: Server, tmp_path: Path) -> None:
    archive = server.archive(name="a.zip", holds="top", checksum=None)
    with pytest.raises(NotFetched, match=rf"{server.url} to be fetched"):
        provide((archive,), tmp_path / "none", download=True, only_look=True)
    with pytest.raises(CorpusError, match="set download: true") as refused:
        provide((archive,), tmp_path / "none", download=False, only_look=True)
    assert not isinstance(refused.value, NotFetched)
    assert not (tmp_path / "none").exists()
    (tmp_path / "a.zip").write_bytes(zipped())
    with pytest.raises(NotFetched, match=r"a\.zip to be unpacked"):
        provide((archive,), tmp_path, download=False, only_look=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    provide((archive,), tmp_path, download=False)
    provide((archive,), tmp_path, download=False, only_look=True)
    assert not server.asked


def providing(server: Server, folder: Path, **more: object) -> Callable[..., None]:
    archive = server.archive(name="a.zip", holds="top", checksum=None, **more)
    return lambda *, download: provide((archive,), folder, download=download, sleep=no_sleep)


def test_what_is_unpacked_or_lies_there_is_not_fetched(server: Server, tmp_path: Path) -> None:
    server.content = zipped()
    run = providing(server, tmp_path)
    (tmp_path / "a.zip").write_bytes(zipped())
    run(download=False)
    (tmp_path / "a.zip").unlink()
    run(download=False)
    assert (tmp_path / "top/a.txt").exists()
    assert not server.asked
    run = providing(server, tmp_path / "other")
    run(download=True)
    assert (tmp_path / "other/top/a.txt").exists()


def test_what_is_missing_says_how_to_get_it(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=rf"set download: true, or put {server.url} there by hand as .*a\.zip"
    ):
        providing(server, tmp_path)(download=False)


def test_a_half_unpacked_archive_is_unpacked_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped("top/b.txt")[:-30])
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        providing(server, tmp_path)(download=False)
    (tmp_path / "top").mkdir()  # as if some of it had been written
    (tmp_path / "a.zip").write_bytes(zipped("top/b.txt"))
    providing(server, tmp_path)(download=False)
    assert (tmp_path / "top/b.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "top"]


def test_an_archive_of_something_else_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped("else/b.txt"))
    with pytest.raises(CorpusError, match="does not hold top"):
        providing(server, tmp_path)(download=False)
    with pytest.raises(CorpusError, match=r"a\.zip has .* bytes, not 7; remove it"):
        providing(server, tmp_path, size_bytes=7)(download=False)
