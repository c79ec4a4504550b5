"""Published weights: found, fetched, checked; and every way in which that fails is one clear line."""

import errno
import hashlib
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from paluku.codec import published
from paluku.codec.published import Weights, find, read_tensors, weights_folder
from paluku.config import resolve
from paluku.errors import CheckpointError, ConfigError, StorageError, one_line

CONTENT = b"weights of a codec" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Reply(BaseHTTPRequestHandler):
    """Announces all of `CONTENT` and sends `sends` of it; 404 for any other path."""

    sends: ClassVar[int] = len(CONTENT)
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path != "/model-1.th":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: self.sends])

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tests read stderr."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A publisher on this machine."""
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")
    monkeypatch.setattr(Reply, "requests", [])
    with HTTPServer(("127.0.0.1", 0), Reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/model-1.th"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALUKU_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def known(url: str = "https://example.org/model-1.th", **other: object) -> dict[str, Weights]:
    values = {"name": "model", "file": "model-1.th", "url": url, "licence": "CC BY-NC 4.0", "sha256": SHA256}
    return {"model": resolve(Weights, values | other, "test")}


def test_a_name_is_fetched_once_checked_and_its_licence_shown(
    folder: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "paluku"):
        first, second = (find("model", known(url, size_bytes=len(CONTENT))) for _ in range(2))
    assert first == second == folder / "model-1.th"
    assert first.read_bytes() == CONTENT
    assert Reply.requests == ["/model-1.th"]
    assert [path.name for path in folder.iterdir()] == ["model-1.th"]
    assert caplog.messages[-1].endswith("licence='CC BY-NC 4.0'")


def test_the_default_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PALUKU_WEIGHTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".cache" / "paluku" / "weights"


def test_a_file_put_there_by_hand_needs_no_network(folder: Path) -> None:
    folder.mkdir()
    (folder / "model-1.th").write_bytes(CONTENT)
    assert find("model", known(sha256=SHA256[:8])) == folder / "model-1.th"


@pytest.mark.parametrize("digits", [8, 64])
def test_another_file_under_a_published_name_is_refused(folder: Path, digits: int) -> None:
    folder.mkdir()
    place = folder / "model-1.th"
    place.write_bytes(CONTENT[:-1] + b"!")
    for asked in ("model", str(place)):
        with pytest.raises(CheckpointError) as caught:
            find(asked, known(sha256=SHA256[:digits]))
        message = one_line(caught.value)
        assert f"{place} has sha256 {hashlib.sha256(place.read_bytes()).hexdigest()}" in message
        assert f"model has {SHA256[:digits]}" in message
        assert "put https://example.org/model-1.th there by hand" in message


def test_a_file_cut_off_is_told_by_its_size(folder: Path) -> None:
    folder.mkdir()
    (folder / "model-1.th").write_bytes(CONTENT[:10])
    with pytest.raises(CheckpointError, match=r"has 10 bytes, model has 18000: it is damaged, cut off"):
        find("model", known(size_bytes=len(CONTENT)))


def test_a_file_of_ones_own_is_taken_at_its_word(tmp_path: Path, folder: Path) -> None:
    own = tmp_path / "tuned.th"
    own.write_bytes(b"mine")
    assert find(str(own), known()) == own


def test_a_name_nobody_knows_lists_those_that_are(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"modle is neither a file nor .* \(known: model\)"):
        find("modle", known())


def test_without_a_network_it_says_where_to_put_the_file(folder: Path, url: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/model-1.th"
        with pytest.raises(CheckpointError) as caught:
            find("model", known(address))
    message = one_line(caught.value)
    assert message.startswith(f"model is not at {folder}/model-1.th and cannot be fetched from {address}")
    assert f"put model-1.th into {folder} by hand" in message


def test_a_file_the_publisher_no_longer_has_is_named(folder: Path, url: str) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be fetched from .*gone\.th \(HTTP Error 404"):
        find("model", known(url.replace("model-1", "gone")))


def test_a_connection_that_breaks_leaves_nothing_behind(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reply, "sends", 7000)
    with pytest.raises(CheckpointError, match="it ended after 7000 of 18000 bytes"):
        find("model", known(url))
    assert not list(folder.iterdir())


def test_what_was_fetched_is_checked_before_it_gets_its_name(folder: Path, url: str) -> None:
    with pytest.raises(CheckpointError, match=f"model-1.th gave has sha256 {SHA256}, model has 0000"):
        find("model", known(url, sha256="0" * 64))
    assert not list(folder.iterdir())


def test_a_full_disk_is_one_clear_line(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(published, "_copy", full)
    with pytest.raises(StorageError, match=r"weights cannot be written \(No space left on device\); free"):
        find("model", known(url))
    assert not list(folder.iterdir())


def test_a_folder_that_is_a_file_is_one_clear_line(folder: Path, url: str) -> None:
    folder.write_text("not a folder")
    with pytest.raises(StorageError, match="weights cannot be written"):
        find("model", known(url))


@pytest.mark.parametrize("sha256", ["d7cc33b", "D7CC33BC", "xyz"])
def test_a_hash_is_eight_hex_digits_or_more(sha256: str) -> None:
    with pytest.raises(ConfigError, match="sha256"):
        known(sha256=sha256)


def test_tensors_are_read_back_and_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.th"
    torch.save({"weight": torch.arange(3)}, path)
    assert read_tensors(path)["weight"].tolist() == [0, 1, 2]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"weights\.th holds no weights that can be read"):
            read_tensors(path)
