"""What the doctor says of a server: of a real one, and of answers that are not well."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paluku.cluster.ports import free_ports
from paluku.errors import ConfigError
from paluku.protocol.messages import Error
from paluku.serving.app import build_app
from paluku.serving.doctor import server as doctor
from paluku.serving.doctor.finding import Finding
from paluku.serving.doctor.server import Answer
from paluku.serving.gate import Gate
from paluku.streaming.ports import Conditions
from tests.fakes.bundle import tiny_bundle
from tests.fakes.clock import FakeClock
from tests.wire.server import Server, serving

ROOT = Path(__file__).parents[2]
KEY = "pk_a-key-long-enough-for-anyone"
GOOD = {"seats": 8, "seats_used": 2, "sessions": 2, "frames_out": 5_000, "frames_late": 0}
TESTED = {
    "frames_sent": 100,
    "frames_answered": 100,
    "frames_late": 0,
    "reaction_ms": 87.0,
    "audible_reply": True,
    "ending": "done",
}


def examined(server: Server, key: str | None = None) -> dict[str, Finding]:
    """The doctor in a thread, while the server's clock goes on."""

    async def run() -> list[Finding]:
        async with serving(server):
            url = f"http://127.0.0.1:{server.port}/"
            asking = asyncio.create_task(asyncio.to_thread(doctor.check, url, key))
            assert isinstance(server.clock, FakeClock)
            while not asking.done():
                server.clock.advance(server.service.tick_s / 2)
                await asyncio.sleep(0.001)
            return asking.result()

    return {finding.check: finding for finding in asyncio.run(run())}


def test_a_running_server_is_well() -> None:
    findings = examined(Server())
    assert list(findings) == ["server", "seats", "frames", "self-test", "WebSocket"]
    assert findings["self-test"].found.startswith("100 of 100 frames answered")
    assert "ready, 40 ms a frame" in findings["WebSocket"].found
    assert not [finding for finding in findings.values() if finding.verdict == "FAIL"]


def locked() -> Server:
    server = Server()
    server.app = build_app(
        server.service, Gate(server.service.config, server.clock, {"PALUKU_KEYS": f"a={KEY}"})
    )
    return server


def test_a_server_with_keys_is_asked_with_one() -> None:
    assert not [finding for finding in examined(locked(), KEY).values() if finding.verdict == "FAIL"]


def test_without_its_key_a_server_says_what_is_wanted() -> None:
    findings = examined(locked())
    assert findings["server"].verdict == "ok"
    for check in ("stats", "self-test", "WebSocket"):
        assert findings[check].verdict == "FAIL", check
        assert "--key" in findings[check].todo


def test_a_full_server_is_a_warning() -> None:
    server = Server(num_seats=1)

    async def run() -> list[Finding]:
        async with serving(server), server.service.attached(Conditions()):
            url = f"http://127.0.0.1:{server.port}"
            return await asyncio.to_thread(doctor.check, url)

    findings = {finding.check: finding for finding in asyncio.run(run())}
    assert {name for name, finding in findings.items() if finding.verdict == "warn"} == {
        *("seats", "self-test", "WebSocket")
    }


def test_where_nothing_listens_the_server_is_down() -> None:
    (finding,) = doctor.check(f"http://127.0.0.1:{free_ports(1)[0]}")
    assert (finding.check, finding.verdict) == ("server", "FAIL")
    assert "make serve" in finding.todo


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://[::1", "http://127.0.0.1:port", "http://:8000"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        doctor.check(url)


def test_a_key_that_no_header_holds_is_refused_and_not_quoted() -> None:
    with pytest.raises(ConfigError) as refused:
        doctor.check("http://127.0.0.1:8000", "pk_first\npk_second")
    assert "pk_" not in str(refused.value)


def test_a_key_from_a_file_with_its_line_break_is_the_key() -> None:
    assert examined(locked(), f"{KEY}\n")["seats"].verdict == "ok"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(503, {"bundle": "b", "status": "stopped"}), "has stopped"),
        (Answer(200, {}), "no Paluku"),
        (Answer(404, {"detail": "Not Found"}), "HTTP 404"),
    ],
)
def test_a_server_that_is_not_well_is_a_failure(answer: Answer, found: str) -> None:
    finding = doctor.health(answer)
    assert finding.verdict == "FAIL"
    assert found in finding.found


def test_late_frames_are_a_warning() -> None:
    seats, frames = doctor.stats(Answer(200, GOOD | {"frames_late": 6}))
    assert (seats.verdict, frames.verdict) == ("ok", "warn")


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (Answer(200, TESTED | {"frames_answered": 90, "ending": "stage_lost"}), "FAIL", "stage_lost"),
        (Answer(200, TESTED | {"frames_late": 3}), "warn", "PalukuLateFrames"),
        (Answer(200, TESTED | {"audible_reply": False}), "warn", "silent"),
        (Answer(503, {"code": "no_seat", "message": "full"}), "warn", "less busy"),
        (Answer(503, {"code": "failed", "message": "a stage is lost"}), "FAIL", "log"),
        (Answer(0, {"message": "timed out"}), "FAIL", "log"),
        (Answer(200, TESTED), "ok", ""),
    ],
)
def test_the_self_tests_answer_is_judged(answer: Answer, verdict: str, said: str) -> None:
    finding = doctor.self_test(answer)
    assert finding.verdict == verdict
    assert said in finding.todo


@pytest.mark.parametrize(
    ("heard", "verdict", "todo"),
    [
        (Error(code="unauthorized", message="no key"), "FAIL", "--key"),
        (Error(code="no_seat", message="full", retry_s=5), "warn", "5 s"),
        (Error(code="unsupported_version", message="speak 2"), "FAIL", "protocol.md"),
        ("InvalidStatus: HTTP 400", "FAIL", "upgrades"),
    ],
)
def test_the_first_word_on_the_websocket_is_judged(heard: Any, verdict: str, todo: str) -> None:
    finding = doctor.greeting(heard)
    assert finding.verdict == verdict
    assert todo in finding.todo


def doctored(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "jobs.doctor", *words]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)


def test_the_command_fails_when_a_check_does_and_says_all_as_json(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    done = doctored("--json", "--url", nowhere, "--bundle", str(tiny_bundle(tmp_path)))
    told = json.loads(done.stdout)
    verdicts = {finding["check"]: finding["verdict"] for finding in told["findings"]}
    assert (done.returncode, verdicts["server"]) == (1, "FAIL"), done.stderr
    assert told["fail"] == list(verdicts.values()).count("FAIL")
    for check in ("cores", "GPU", "Python", "packages", "port 8000", "Opus", "model s2s", "frame decode"):
        assert check in verdicts
    assert all(finding["todo"] for finding in told["findings"] if finding["verdict"] != "ok")


def test_the_command_tells_a_wrong_address_in_one_line() -> None:
    done = doctored("--url", "localhost")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --url localhost is no address")
