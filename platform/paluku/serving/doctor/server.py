"""A running server: does it live, what does it say of itself, does it answer the self-test and a Hello?"""

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from paluku.errors import ConfigError
from paluku.protocol import native
from paluku.protocol.messages import CloseCode, Error, Hello, Ready, ViolationError
from paluku.serving.doctor.finding import Finding, failure, warning, well

# The self-test speaks for 4 s and gives up 10 s later.
TIMEOUT_S = 30.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LATE_SHARE = 0.001
RATE_HZ = 16_000
UNAUTHORIZED = 401
KEY_TODO = "say a key the server knows: --key, or PALUKU_KEY"
DOWN_TODO = (
    "start it (make serve, serve deploy), or give its address with --url; `serve status` says what failed"
)


class Answer(NamedTuple):
    """Of one request: the HTTP status (0: nothing answered), and its JSON or why there is none."""

    status: int
    body: dict[str, Any]


def check(url: str, key: str | None = None) -> list[Finding]:
    """Everything that can be asked from outside.

    Raises:
        ConfigError: when the address is none, or the key cannot be said.
    """
    base, key = address(url), sayable(key)
    lives = health(ask(f"{base}/health", key))
    if lives.verdict == "FAIL":
        return [lives]
    return [
        lives,
        *stats(ask(f"{base}/stats", key)),
        self_test(ask(f"{base}/test", key, "POST")),
        greeting(asyncio.run(hello(f"ws{base.removeprefix('http')}/ws", key))),
    ]


def address(url: str) -> str:
    """Without a slash at its end. Raises ConfigError when it is no address."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        is_address = False
    if not is_address:
        raise ConfigError(f"--url {url} is no address; write it as http://127.0.0.1:8000")
    return url.rstrip("/")


def sayable(key: str | None) -> str | None:
    """Without the line break of the file it came from. Raises ConfigError when no HTTP header can hold it."""
    key = key.strip() if key else None
    if key and not (key.isascii() and key.isprintable()):  # its words stay here: Python's error quotes it
        raise ConfigError("the key holds letters that no HTTP header can; copy it again")
    return key


def health(answer: Answer) -> Finding:
    """Of `GET /health`."""
    if answer.status == 0:
        return failure("server", str(answer.body["message"]), DOWN_TODO)
    if "bundle" not in answer.body:
        return failure("server", f"HTTP {answer.status}, and no Paluku answers there", DOWN_TODO)
    if answer.status != 200:
        todo = "read the log of the ingress; Serve replaces it within seconds"
        return failure("server", "its clock or a worker has stopped", todo)
    return well("server", f"serves bundle {answer.body['bundle'][:12]}")


def stats(answer: Answer) -> list[Finding]:
    """Of `GET /stats`."""
    if (refused := _refused("stats", answer)) is not None:
        return [refused]
    said = answer.body
    used, seats = said["seats_used"], said["seats"]
    seated = f"{used} of {seats} used, {said['sessions']} sessions"
    findings = [
        well("seats", seated)
        if used < seats
        else warning(
            "seats", seated, "add replicas, or raise max_replicas; docs/operations.md, PalukuNoFreeSeats"
        )
    ]
    frames, late = said["frames_out"], said["frames_late"]
    answered = f"{frames} answered, {late} late"
    if late > LATE_SHARE * frames:
        findings.append(warning("frames", answered, "see docs/operations.md, PalukuLateFrames"))
    else:
        findings.append(well("frames", answered))
    return findings


def self_test(answer: Answer) -> Finding:
    """Of `POST /test`."""
    if answer.body.get("code") == "no_seat":
        return warning("self-test", "no seat was free for it", "ask again when the server is less busy")
    if (refused := _refused("self-test", answer)) is not None:
        return refused
    said = answer.body
    sent, answered, late = (said[f"frames_{word}"] for word in ("sent", "answered", "late"))
    found = f"{answered} of {sent} frames answered, {late} late, reaction {said['reaction_ms'] or 0:.0f} ms"
    if answered < sent:
        return failure("self-test", found, f"read the log of the ingress: it ended with {said['ending']}")
    if late:
        return warning(
            "self-test", found, "its stages are slow or busy; docs/operations.md, PalukuLateFrames"
        )
    if not said["audible_reply"]:
        return warning(
            "self-test", f"{found}; silence", "a model may be silent to a buzz; talk to it yourself"
        )
    return well("self-test", found)


def greeting(heard: Ready | Error | str) -> Finding:
    """Of a Hello on `/ws`."""
    if isinstance(heard, Ready):
        return well("WebSocket", f"{heard.server} is ready, {heard.frame_ms:g} ms a frame")
    if isinstance(heard, Error):
        if heard.code == "unauthorized":
            return failure("WebSocket", heard.message, KEY_TODO)
        if heard.retry_s is not None:
            return warning("WebSocket", heard.message, f"ask again in {heard.retry_s:g} s")
        return failure("WebSocket", f"{heard.code}: {heard.message}", "see docs/protocol.md for the code")
    return failure("WebSocket", heard, "let the proxy before it pass WebSocket upgrades (docs/security.md)")


def _refused(check: str, answer: Answer) -> Finding | None:
    if answer.status == 200:
        return None
    if answer.status == UNAUTHORIZED:
        return failure(check, "the server wants a key", KEY_TODO)
    said = answer.body.get("message", "")
    return failure(check, f"HTTP {answer.status} {said}".strip(), "read the log of the ingress")


def ask(url: str, key: str | None, method: str = "GET") -> Answer:
    """One request; whatever goes wrong is in the answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 (http, checked)
    opener = urllib.request.build_opener(*_proxies(url))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return Answer(answer.status, _json(answer.read()))
    except urllib.error.HTTPError as error:
        return Answer(error.code, _json(error.read()))
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Answer(0, {"message": f"nothing answers at {url} ({reason})"})


def _proxies(url: str) -> list[urllib.request.BaseHandler]:
    """A proxy of the environment has no way to this machine's own loopback."""
    return [urllib.request.ProxyHandler({})] if urlsplit(url).hostname in LOOPBACK else []


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def hello(url: str, key: str | None) -> Ready | Error | str:
    """Begin a session and leave it; gives the server's first word, or why there is none."""
    proxy = None if urlsplit(url).hostname in LOOPBACK else True
    try:
        async with asyncio.timeout(TIMEOUT_S), connect(url, compression=None, proxy=proxy) as socket:
            await socket.send(native.encode(Hello(sample_rate_hz=RATE_HZ, key=key)))
            said = native.decode_server(await socket.recv(decode=False))
            await socket.close(CloseCode.DONE)
    except (OSError, TimeoutError, WebSocketException, ViolationError) as error:
        return f"{type(error).__name__}: {error}"
    return said if isinstance(said, Ready | Error) else f"the server began with {type(said).__name__}"
