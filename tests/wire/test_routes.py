"""What an operator and a browser ask over HTTP, of the real application on a loopback port."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from paluku.serving.app import build_app
from paluku.serving.config import ServingConfig
from paluku.serving.gate import Gate
from paluku.serving.selftest import SILENCE_S, SPEECH_S
from paluku.streaming.ports import Conditions
from tests.fakes.clock import FakeClock
from tests.wire.server import Server, serving, until

KEY = "pk_a-key-long-enough-for-anyone"
RIGHT = {"authorization": f"Bearer {KEY}"}
CLIP_FRAMES = round((SPEECH_S + SILENCE_S) / 0.04)

Script = Callable[[Server, httpx.AsyncClient], Coroutine[Any, Any, None]]


def play(script: Script, keys: str = "", web: Path | None = None, **options: Any) -> None:
    async def run() -> None:
        server = Server(**options)
        environ = {"PALUKU_KEYS": keys} if keys else {}
        gate = Gate(server.service.config, server.clock, environ)
        server.app = build_app(server.service, gate, web)
        async with serving(server), asking(server) as http:
            await script(server, http)

    asyncio.run(run())


@asynccontextmanager
async def asking(server: Server):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:
        yield http


async def ticking(server: Server, task: "asyncio.Task[httpx.Response]") -> httpx.Response:
    """Let time pass until an answer is there."""
    assert isinstance(server.clock, FakeClock)
    while not task.done():
        server.clock.advance(server.service.tick_s / 2)
        for _ in range(40):
            await asyncio.sleep(0)
        await asyncio.sleep(0.0005)  # the sockets too
    return task.result()


@pytest.mark.parametrize(("method", "path"), [("GET", "/stats"), ("GET", "/metrics"), ("POST", "/test")])
def test_operators_need_a_key_where_there_are_keys(method: str, path: str) -> None:
    async def script(server: Server, http: httpx.AsyncClient) -> None:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            answer = await http.request(method, path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.text.startswith("unauthorized: ")
        assert (await http.request(method, f"{path}?key={KEY}")).status_code == 401
        foreign = await http.request(method, path, headers=RIGHT | {"origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert not server.service.stats()["seats_used"]

    play(script, keys=f"ops={KEY}")


def test_a_key_opens_what_operators_ask() -> None:
    async def script(_: Server, http: httpx.AsyncClient) -> None:
        stats = await http.get("/stats", headers=RIGHT)
        metrics = await http.get("/metrics", headers=RIGHT)
        assert (stats.status_code, metrics.status_code) == (200, 200)
        assert KEY not in stats.text + metrics.text

    play(script, keys=f"ops={KEY}")


def test_health_needs_no_key_and_tells_a_stopped_service() -> None:
    async def script(server: Server, http: httpx.AsyncClient) -> None:
        answer = await http.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        await server.service.stop()
        answer = await http.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "stopped")

    play(script, keys=f"ops={KEY}")


def test_stats_say_the_cost_and_who_was_refused() -> None:
    async def script(server: Server, http: httpx.AsyncClient) -> None:
        await http.get("/stats", headers={"origin": "https://evil.example"})
        async with server.service.attached(Conditions()) as session:
            session.hear(b"", server.clock.now())
            stats = (await http.get("/stats")).json()
        assert (stats["sessions"], stats["seats"], stats["seats_used"]) == (1, 4, 1)
        assert (stats["cost_per_user_hour"], stats["cost_per_user_hour_when_full"]) == (3.0, 0.75)
        assert stats["refusals"] == {"forbidden_origin": 1}

    play(script, num_seats=4, config=ServingConfig(price_per_hour=3.0))


def test_metrics_are_prometheus_text() -> None:
    async def script(_: Server, http: httpx.AsyncClient) -> None:
        answer = await http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "# TYPE paluku_tick_seconds histogram" in answer.text
        assert "# TYPE paluku_seats gauge" in answer.text

    play(script)


def test_the_self_test_answers_every_frame_of_its_clip() -> None:
    async def script(server: Server, http: httpx.AsyncClient) -> None:
        report = (await ticking(server, asyncio.create_task(http.post("/test", timeout=60)))).json()
        assert (report["frames_sent"], report["frames_answered"]) == (CLIP_FRAMES, CLIP_FRAMES)
        assert report["ending"] == "done"
        assert (report["passed"], report["frames_late"], report["audible_reply"]) == (True, 0, True)
        # The frames come halfway between the ticks. Their sound took half a frame to become one, on average,
        # and the model speaks a frame behind it.
        assert report["latency_p50_ms"] == report["latency_max_ms"] == pytest.approx(20)
        assert report["reaction_ms"] == pytest.approx(20 + 20 + 40)
        assert set(report["stages"]) == {"encode", "converse", "decode"}
        await until(lambda: server.service.stats()["seats_used"] == 0)

    play(script)


def test_the_self_test_is_refused_clearly_without_a_seat() -> None:
    async def script(server: Server, http: httpx.AsyncClient) -> None:
        async with server.service.attached(Conditions()):
            answer = await http.post("/test")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_seat")
        assert int(answer.headers["retry-after"]) > 0

    play(script, num_seats=1)


def test_one_self_test_at_a_time() -> None:
    async def script(server: Server, http: httpx.AsyncClient) -> None:
        first = asyncio.create_task(http.post("/test", timeout=60))
        await until(lambda: server.service.stats()["seats_used"] == 1)
        second = await http.post("/test")
        assert (second.status_code, second.json()["code"]) == (409, "busy")
        assert (await ticking(server, first)).status_code == 200
        third = asyncio.create_task(http.post("/test", timeout=60))
        assert (await ticking(server, third)).status_code == 200

    play(script)


def test_a_lost_stage_fails_the_self_test_and_frees_its_place() -> None:
    async def script(server: Server, http: httpx.AsyncClient) -> None:
        server.stages[1].failing.add("open")
        answer = await http.post("/test", timeout=60)
        assert answer.status_code == 503
        server.stages[1].failing.clear()
        server.fleets[1].gone.clear()
        assert (await ticking(server, asyncio.create_task(http.post("/test", timeout=60)))).status_code == 200

    play(script)


def test_a_self_test_that_hangs_gives_its_seat_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPEECH_S", "SILENCE_S", "TIMEOUT_S"):
        monkeypatch.setattr(f"paluku.serving.selftest.{name}", 0.02)

    async def script(server: Server, http: httpx.AsyncClient) -> None:
        answer = await http.post("/test", timeout=60)  # the clock stands: no frame is ever answered
        assert (answer.status_code, answer.json()["code"]) == (503, "failed")
        stats = server.service.stats()
        assert (stats["sessions"], stats["seats_used"]) == (0, 0)

    play(script)


def test_the_page_is_served_when_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>పలుకు</title>", encoding="utf-8")
    (tmp_path / "sound.js").write_text("// worklet", encoding="utf-8")

    async def script(_: Server, http: httpx.AsyncClient) -> None:
        page = await http.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "పలుకు" in page.text
        assert (await http.get("/web/sound.js")).text == "// worklet"
        assert (await http.get("/web/../../etc/passwd")).status_code == 404

    play(script, web=tmp_path)


def test_without_a_page_the_root_says_where_to_go(tmp_path: Path) -> None:
    async def script(_: Server, http: httpx.AsyncClient) -> None:
        answer = await http.get("/")
        assert answer.status_code == 200
        assert "/v1/realtime" in answer.text
        assert (await http.get("/web/index.html")).status_code == 404

    play(script, web=tmp_path)
