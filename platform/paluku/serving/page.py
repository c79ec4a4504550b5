"""The page over HTTP: right types, revalidated by ETag, and headers that confine it to this host."""

import importlib.util
from os import PathLike, stat_result
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

NO_PAGE = "Paluku: speech in, speech out. The WebSockets are /ws and /v1/realtime; see also /health.\n"
# Named here, because what the machine's own tables say of .js differs, and `nosniff` makes it matter.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but this host, its WebSockets included ('self' covers them); no inline script or style; in no frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for each time, answered by 304 while nothing changed: page and server never differ in version.
    "Cache-Control": "no-cache",
}


class PageFiles(StaticFiles):
    """The files of one folder."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """One file, or 304 when the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        media_type = TYPES.get(Path(full_path).suffix)
        if media_type and "content-type" in response.headers:
            response.headers["Content-Type"] = media_type
        return response


def web_folder() -> Path | None:
    """Where the page lies: beside the application that Serve deploys."""
    found = importlib.util.find_spec("serve_apps")
    places = found.submodule_search_locations if found else None
    return Path(places[0]) / "web" if places else None


def add_page(app: FastAPI, web: Path | None) -> None:
    """Serve the page at `/` and its files below `/web`; without a page, `/` says where the WebSockets are."""
    if web is None or not (web / "index.html").exists():

        @app.get("/")
        def nothing() -> PlainTextResponse:
            return PlainTextResponse(NO_PAGE)

        return
    files = PageFiles(directory=web)
    app.mount("/web", files)

    @app.api_route("/", methods=["GET", "HEAD"], response_model=None)
    async def index(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)
