"""Our client against the real application: in real time, on a loopback socket."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paluku.audio import from_pcm16, read, write_wav
from paluku.client.session import Conversation, connect
from paluku.errors import SeatsExhausted, ServiceError
from paluku.protocol.messages import Hello
from paluku.serving.config import ServingConfig
from paluku.streaming.clock import MonotonicClock
from tests.fakes.stages import FRAME_SAMPLES, SCRIPT, K
from tests.wire.server import RATE_HZ, Server, serving, until

HELLO = Hello(sample_rate_hz=RATE_HZ)


def ramps(frames: int) -> np.ndarray:
    """A wave whose frames are told apart by their first samples: 1000, 2000, ..."""
    pcm = np.zeros((frames, FRAME_SAMPLES), np.int16)
    pcm[:, :K] = 1000 * np.arange(1, frames + 1)[:, None]
    return from_pcm16(pcm.reshape(-1))


async def run_cli(*arguments: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paluku.client", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def test_a_spoken_wave_comes_back_one_frame_later_and_is_measured() -> None:
    async def script() -> Conversation:
        async with serving(Server(clock=MonotonicClock())) as server, connect(server.url, HELLO) as talk:
            await talk.speak(ramps(12)[:-100])  # the last frame is filled up
            return talk

    talk = asyncio.run(script())
    assert talk.reply.reshape(-1, FRAME_SAMPLES)[:, 0].tolist() == [0, *range(1000, 12_000, 1000)]
    report = talk.report
    assert (report.frames_in, report.frames_out) == (12, 12)
    assert report.transcript == SCRIPT
    assert report.server is not None
    assert report.server.count == 12
    assert report.reaction is not None
    assert report.reaction.count == 11 * 8
    # The arithmetic's floor, whatever the machine: half a frame of fill and a frame of acoustic delay.
    assert report.reaction.mean_ms > 60


def test_no_seat_is_told_with_when_to_come_back() -> None:
    async def script() -> None:
        async with serving(Server(num_seats=1)) as server, connect(server.url, HELLO):
            with pytest.raises(SeatsExhausted, match="all 1 seats are taken") as refused:
                async with connect(server.url, HELLO):
                    pass
            assert refused.value.retry_s > 0

    asyncio.run(script())


def test_a_lost_stage_reaches_the_speaker() -> None:
    async def script() -> None:
        config = ServingConfig(recovery_s=0.2)
        server = Server(clock=MonotonicClock(), config=config)
        async with serving(server), connect(server.url, HELLO) as talk:
            server.stages[2].failing = {"all"}
            with pytest.raises(ServiceError, match="stage_lost"):
                await talk.speak(ramps(50))

    asyncio.run(script())


def test_the_command_line_saves_the_reply_and_prints_one_json_line(tmp_path: Path) -> None:
    write_wav(tmp_path / "question.wav", ramps(5), RATE_HZ)

    async def script() -> tuple[int, str, str]:
        async with serving(Server(clock=MonotonicClock())) as server:
            return await run_cli(
                tmp_path / "question.wav",
                *("--out", tmp_path / "reply.wav", "--url", server.url, "--tail", 0.08, "--json"),
            )

    code, out, err = asyncio.run(script())
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["frames_in"], report["frames_out"]) == (7, 7)
    reply, rate_hz = read(tmp_path / "reply.wav")
    assert rate_hz == RATE_HZ
    heard = np.rint(reply[:, 0] * 32768).astype(int).reshape(7, FRAME_SAMPLES)[:, 0]
    assert heard.tolist() == [0, 1000, 2000, 3000, 4000, 5000, 0]


def test_several_sessions_are_pooled_and_the_first_is_kept(tmp_path: Path) -> None:
    write_wav(tmp_path / "question.wav", ramps(5), RATE_HZ)

    async def script() -> tuple[int, str, str]:
        async with serving(Server(clock=MonotonicClock())) as server:
            out, options = tmp_path / "reply.wav", ("--tail", 0, "--sessions", 3, "--json")
            return await run_cli(tmp_path / "question.wav", "--out", out, "--url", server.url, *options)

    code, out, err = asyncio.run(script())
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["frames_in"], report["frames_out"]) == (15, 15)
    assert report["reaction"]["count"] == 3 * 4 * 8
    assert len(read(tmp_path / "reply.wav")[0]) == 5 * FRAME_SAMPLES


def test_a_file_of_another_rate_is_resampled(tmp_path: Path) -> None:
    write_wav(tmp_path / "question.wav", np.zeros(48_000 // 5, np.float32), 48_000)

    async def script() -> tuple[int, str, str]:
        async with serving(Server(clock=MonotonicClock())) as server:
            out = tmp_path / "reply.wav"
            return await run_cli(tmp_path / "question.wav", "--out", out, "--url", server.url, "--tail", 0)

    code, out, _ = asyncio.run(script())
    assert code == 0
    assert "frames     5 in, 5 out, 0 late, 0 lost" in out
    assert "resumes    0" in out
    assert len(read(tmp_path / "reply.wav")[0]) == RATE_HZ // 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["missing.wav"], "missing.wav does not exist"),
        (["ok.wav", "--url", "ws://127.0.0.1:9/ws"], "ws://127.0.0.1:9/ws cannot be reached"),
        (["ok.wav", "--url", "nonsense"], "nonsense is no WebSocket address"),
        (
            ["ok.wav", "--url", "SERVER", "--rate", "11025"],
            "pcm16 is taken at 8000, 16000, 24000, 48000 Hz, not 11025 Hz",
        ),
        (["ok.wav", "--url", "SERVER/elsewhere"], "cannot be reached"),
        (["ok.wav", "--url", "SERVER", "--seed", "-1"], "seed"),
        (["ok.wav", "--url", "SERVER", "--rate", "-5"], "sample_rate_hz"),
        (["ok.wav", "--url", "FULL"], "all 1 seats are taken"),
        (["ok.wav", "--url", "SERVER", "--opus", "--rate", "16000"], "opus is taken at 24000, 48000 Hz"),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_code_2(tmp_path: Path, options: list[str], says: str) -> None:
    write_wav(tmp_path / "ok.wav", ramps(2), RATE_HZ)

    async def script() -> tuple[int, str, str]:
        async with serving(Server(num_seats=1)) as server:
            words: list[Any] = [
                word.replace("SERVER", server.url).replace("FULL", server.url) for word in options
            ]
            file, *rest = words
            arguments = [tmp_path / file, "--out", tmp_path / "reply.wav", *rest]
            if "FULL" not in options:
                return await run_cli(*arguments)
            async with connect(server.url, HELLO):
                return await run_cli(*arguments)

    code, out, err = asyncio.run(script())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert not (tmp_path / "reply.wav").exists()


def test_leaving_before_the_end_frees_the_seat() -> None:
    async def script() -> None:
        async with serving(Server(num_seats=1)) as server:
            async with connect(server.url, HELLO):
                assert server.service.stats()["seats_used"] == 1
            await until(lambda: server.service.stats()["seats_used"] == 0)

    asyncio.run(script())


@pytest.mark.parametrize(
    ("options", "rate_hz"), [(["--opus"], 24_000), (["--rate", "8000", "--no-align"], 8_000)]
)
def test_the_sound_on_the_wire_is_what_was_asked_for(
    tmp_path: Path, options: list[str], rate_hz: int
) -> None:
    write_wav(tmp_path / "question.wav", np.zeros(RATE_HZ // 5, np.float32), RATE_HZ)

    async def script() -> tuple[int, str, str]:
        async with serving(Server(clock=MonotonicClock())) as server:
            out = tmp_path / "reply.wav"
            return await run_cli(
                tmp_path / "question.wav", "--out", out, "--url", server.url, "--tail", 0, *options
            )

    code, out, err = asyncio.run(script())
    assert (code, err) == (0, "")
    assert "frames     5 in, 5 out" in out
    assert read(tmp_path / "reply.wav")[1] == rate_hz


def test_without_a_file_or_sounddevice_there_is_nothing_to_say() -> None:
    async def script() -> list[tuple[int, str, str]]:
        async with serving(Server()) as server:
            return [await run_cli(), await run_cli("--microphone", "--url", server.url)]

    nothing, microphone = asyncio.run(script())
    assert nothing[0] == 2
    assert "give a file or --microphone" in nothing[2]
    assert microphone[0] == 2
    assert "--microphone needs sounddevice" in microphone[2]
