"""Speak a file to a server in real time: `python -m paluku.client FILE --out reply.wav --url ws://...`."""

import argparse
import asyncio
import time
from pathlib import Path

import numpy as np

from paluku.audio import check_writable, from_pcm16, read_mono, write_wav
from paluku.client.session import Conversation, Report, connected, pooled
from paluku.config import resolve
from paluku.errors import exits_cleanly
from paluku.protocol.messages import Hello
from paluku.units import MS_PER_S
from paluku.voices import STYLES, VOICES

MAX_TAIL_S = 600.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m paluku.client", description=__doc__)
    parser.add_argument("file", type=Path, help="WAV, FLAC, OGG or MP3: what the user says")
    parser.add_argument("--out", type=Path, required=True, help="WAV file for the reply")
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--voice", choices=VOICES, default="priya")
    parser.add_argument("--style", choices=STYLES, default="neutral")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=int, default=16_000, help="the server's sample rate in Hz")
    parser.add_argument("--tail", type=_seconds, default=2.0, help="of silence after the file, to hear")
    parser.add_argument(
        "--sessions", type=int, choices=range(1, 21), default=1, metavar="1..20", help="to pool latency over"
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON line")
    return parser.parse_args()


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_TAIL_S:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MAX_TAIL_S:g} seconds")
    return value


async def _speak(url: str, hello: Hello, wave: np.ndarray, sessions: int) -> tuple[np.ndarray, int, Report]:
    """One session after another, each at another phase between its frames and the server's ticks.

    Gives the first one's reply and rate, and a report over all of them.
    """
    talks: list[Conversation] = []
    began_s = time.monotonic()
    for number in range(sessions):
        async with connected(url, hello) as talk:
            frame_s = talk.ready.frame_ms / MS_PER_S
            now_s = time.monotonic()
            phase_s = (began_s + number * frame_s / sessions - now_s) % frame_s
            await talk.speak(wave, now_s + phase_s)
        talks.append(talk)
    return talks[0].reply, talks[0].ready.sample_rate_hz, pooled(talks)


def _print(report: Report, out: Path) -> None:
    print(f"reply      {out}")
    print(f"transcript {report.transcript or '(none)'}")
    print(f"frames     {report.frames_in} in, {report.frames_out} out, {report.late_frames} late")
    for name, latency in (("reaction", report.reaction), ("server", report.server)):
        if latency is not None:
            print(f"{name:10} {latency.mean_ms} ms mean, {latency.std_ms} deviation, {latency.p99_ms} p99")
    print(f"tick       {report.tick_p50_ms:.2f} ms p50, {report.tick_p99_ms:.2f} p99")
    print(f"own pacing {report.pacing_late_p99_ms} ms late at p99")


@exits_cleanly
def main() -> None:
    """Read, speak, save, report."""
    arguments = _arguments()
    asked = {key: getattr(arguments, key) for key in ("voice", "style", "seed")}
    hello = resolve(Hello, {"sample_rate_hz": arguments.rate, **asked}, "command line")
    check_writable(arguments.out)
    wave = read_mono(arguments.file, arguments.rate)
    wave = np.pad(wave, (0, round(arguments.tail * arguments.rate)))
    reply, rate_hz, report = asyncio.run(_speak(arguments.url, hello, wave, arguments.sessions))
    write_wav(arguments.out, from_pcm16(reply), rate_hz)
    if arguments.json:
        print(report.model_dump_json())
    else:
        _print(report, arguments.out)


if __name__ == "__main__":
    main()
