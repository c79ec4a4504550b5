"""The page's files over HTTP, through ASGI without a socket."""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from paluku.serving.page import add_page, web_folder


def ask(path: str, web: Path | None = None, method: str = "GET", **headers: str) -> httpx.Response:
    app = FastAPI()
    add_page(app, web or web_folder())

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://paluku") as http:
            return await http.request(method, path, headers=headers)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/web/page.css", "text/css; charset=utf-8"),
        ("/web/page.js", "text/javascript; charset=utf-8"),
        ("/web/capture.worklet.js", "text/javascript; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
    ],
)
def test_every_file_has_its_type_and_says_what_it_may_reach(path: str, media_type: str) -> None:
    answer = ask(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert answer.headers["permissions-policy"].startswith("microphone=(self)")


@pytest.mark.parametrize("path", ["/", "/web/page.js"])
def test_what_the_browser_has_is_not_sent_again(path: str) -> None:
    first = ask(path)
    assert first.headers["cache-control"] == "no-cache"
    again = ask(path, **{"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = ask(path, **{"if-none-match": '"another"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_a_changed_file_is_another(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>one</p>", encoding="utf-8")
    first = ask("/", tmp_path)
    (tmp_path / "index.html").write_text("<p>one and two</p>", encoding="utf-8")
    again = ask("/", tmp_path, **{"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.text) == (200, "<p>one and two</p>")


def test_the_page_names_only_files_that_are_there() -> None:
    folder = web_folder()
    assert folder is not None
    page = (folder / "index.html").read_text(encoding="utf-8")
    named = [part.split('"')[0] for part in page.split('="web/')[1:]]
    assert {"page.css", "page.js", "icon.svg"} <= set(named)
    for name in named:
        assert (folder / name).is_file(), name
    assert "http://" not in page
    assert "https://" not in page  # nothing from anywhere else


def test_head_and_other_methods() -> None:
    assert (ask("/", method="HEAD").status_code, ask("/", method="HEAD").content) == (200, b"")
    assert ask("/", method="POST").status_code == 405


@pytest.mark.parametrize(
    "path", ["/web/%2e%2e/speech.py", "/web/..%2fspeech.py", "/web/%2e%2e%2f%2e%2e%2fREADME.md"]
)
def test_nothing_beside_the_pages_folder_is_given(path: str) -> None:
    folder = web_folder()
    assert folder is not None
    assert (folder / ".." / "speech.py").is_file()  # there is something to be had
    assert ask(path).status_code == 404
