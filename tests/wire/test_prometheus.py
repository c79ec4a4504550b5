"""A real Prometheus scrapes the real application and runs the shipped rules, with a second for a minute."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from paluku.cluster.ports import free_ports
from paluku.protocol import native
from paluku.protocol.messages import CloseCode, Hello
from paluku.serving.config import ServingConfig
from paluku.streaming.clock import MonotonicClock
from paluku.streaming.ports import Conditions
from tests.fakes.stages import frame
from tests.unit.serving.test_monitoring import ALERTS, expressions, filled
from tests.wire.server import RATE_HZ, Server, client, serving

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="Prometheus is not here; apt-get install prometheus"
)
# A machine that is busy must not lose a lane, nor a client that is silent its session.
PATIENT = ServingConfig(
    step_timeout_s=60, lone_step_timeout_s=60, open_timeout_s=60, idle_timeout_s=600, recovery_s=0.5
)

Script = Callable[[Server, "Scraping"], Coroutine[Any, Any, None]]


class Scraping:
    """A running Prometheus."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, route: str, **asked: str) -> Any:
        answer = await self._http.get(f"/api/v1/{route}", params=asked, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def values(self, query: str) -> list[float]:
        return [float(found["value"][1]) for found in (await self.ask("query", query=query))["result"]]

    async def firing(self) -> set[str]:
        """Which alerts fire; the disk of the machine that runs the tests is its own business."""
        alerts = (await self.ask("alerts"))["alerts"]
        names = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
        return names - {"PalukuDiskLow", "PalukuDiskFull"}

    async def fires(self, *names: str) -> None:
        """Wait until these fire; the test's own time limit ends a wait for nothing."""
        while not set(names) <= await self.firing():
            await asyncio.sleep(0.2)

    async def is_calm(self) -> None:
        """Wait until nothing fires."""
        while await self.firing():
            await asyncio.sleep(0.2)

    async def finds(self, query: str) -> list[float]:
        while not (found := await self.values(query)):
            await asyncio.sleep(0.2)
        return found


@asynccontextmanager
async def scraping(folder: Path, port: int) -> AsyncIterator[Scraping]:
    quick = re.sub(r"for: \w+", "for: 1s", ALERTS.read_text(encoding="utf-8"))
    (folder / "alerts.yml").write_text(re.sub(r"\[\d+m\]", "[20s]", quick), encoding="utf-8")
    config = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "alerts.yml")],
        "scrape_configs": [{"job_name": "paluku", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (own,) = free_ports(1)
    assert PROMETHEUS is not None
    command = [PROMETHEUS, f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{own}"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{own}", trust_env=False) as http:
                await ready(http, process, folder / "log")
                yield Scraping(http)
        finally:
            process.terminate()


async def ready(http: httpx.AsyncClient, process: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert process.poll() is None, log.read_text()
        try:
            if (await http.get("/-/ready")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)


def play(script: Script, folder: Path, **options: Any) -> None:
    async def run() -> None:
        server = Server(config=PATIENT, clock=MonotonicClock(), **options)
        async with serving(server), scraping(folder, server.port) as prometheus:
            await prometheus.finds('up{job="paluku"} == 1')
            await script(server, prometheus)

    asyncio.run(run())


def test_a_full_house_is_told_and_forgotten(tmp_path: Path) -> None:
    async def script(server: Server, prometheus: Scraping) -> None:
        await prometheus.is_calm()
        async with client(server) as user:
            await user.hello()
            await prometheus.fires("PalukuNoFreeSeats")
            async with client(server) as another:
                await another.connection.send(native.encode(Hello(sample_rate_hz=RATE_HZ)))
                assert (await another.to_end())[2] == "no_seat"
            await prometheus.fires("PalukuTurnedAway")
        await prometheus.is_calm()

    play(script, tmp_path, num_seats=1)


def test_a_slow_stage_is_late_slow_and_far_from_the_user(tmp_path: Path) -> None:
    async def script(server: Server, prometheus: Scraping) -> None:
        server.stages[1].stepping = lambda: asyncio.sleep(0.3)
        async with server.service.attached(Conditions()) as session:
            talking = asyncio.create_task(talk(server, session))
            await prometheus.fires("PalukuHighReaction", "PalukuLateFrames", "PalukuSlowTicks")
            talking.cancel()

    play(script, tmp_path)


async def talk(server: Server, session: Any) -> None:
    """A frame at a time: the next when the last is answered."""
    for number in range(1_000_000):
        session.hear(frame(1), server.clock.now())
        while session.frames_out <= number:
            await asyncio.sleep(0.02)


def test_a_lost_stage_that_no_other_replaces_is_an_error_of_ours(tmp_path: Path) -> None:
    async def script(server: Server, prometheus: Scraping) -> None:
        await prometheus.finds("paluku_errors_total")
        async with client(server) as user:
            await user.hello()
            server.stages[2].failing.add("all")
            await user.say(frame(1))
            assert (await user.to_end())[1:] == (CloseCode.STAGE_LOST, "stage_lost")
        await prometheus.fires("PalukuErrors", "PalukuStageCrashed")

    play(script, tmp_path)


def test_an_ingress_that_is_gone_is_down(tmp_path: Path) -> None:
    async def run() -> None:
        server = Server(config=PATIENT, clock=MonotonicClock())
        async with AsyncExitStack() as stack:
            async with serving(server):
                prometheus = await stack.enter_async_context(scraping(tmp_path, server.port))
                await prometheus.finds('up{job="paluku"} == 1')
                await prometheus.is_calm()
            await prometheus.fires("PalukuTargetDown")

    asyncio.run(run())


def test_prometheus_answers_every_question_of_the_dashboard(tmp_path: Path) -> None:
    async def script(server: Server, prometheus: Scraping) -> None:
        async with server.service.attached(Conditions()) as session:
            talking = asyncio.create_task(talk(server, session))
            for expression in expressions():
                query = filled(expression)
                if "gpu_memory" in query or "ALERTS" in query:  # there is none here
                    await prometheus.ask("query", query=query)
                else:
                    assert await prometheus.finds(query), query
            talking.cancel()

    play(script, tmp_path)
