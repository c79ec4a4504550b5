"""Talk to a server: `python -m paluku.client FILE --out reply.wav --url ws://...`, or `--microphone`."""

import argparse
import asyncio
import contextlib
import os
import time
from pathlib import Path

import numpy as np

from paluku.audio import check_writable, from_pcm16, read_mono, write_wav
from paluku.client.microphone import converse
from paluku.client.session import Conversation, Report, connect, pooled
from paluku.config import resolve
from paluku.errors import exits_cleanly
from paluku.protocol.messages import OPUS_RATES_HZ, SAMPLE_RATES_HZ, Hello
from paluku.units import MS_PER_S
from paluku.voices import STYLES, VOICES

MAX_TAIL_S = 600.0
KEY_VARIABLE = "PALUKU_KEY"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m paluku.client", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="WAV, FLAC, OGG or MP3: what the user says")
    parser.add_argument("--microphone", action="store_true", help="talk until Ctrl-C, with headphones")
    parser.add_argument("--out", type=Path, help="WAV file for the reply")
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--key", help=f"bearer key; by default what {KEY_VARIABLE} holds")
    parser.add_argument("--voice", choices=VOICES, default="priya")
    parser.add_argument("--style", choices=STYLES, default="neutral")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--opus", action="store_true", help="compressed sound; PCM16 otherwise")
    parser.add_argument(
        "--rate",
        type=int,
        help=f"of the sound on the wire in Hz: one of {SAMPLE_RATES_HZ}, with Opus {OPUS_RATES_HZ}",
    )
    parser.add_argument("--tail", type=_seconds, default=2.0, help="of silence after the file, to hear")
    parser.add_argument(
        "--sessions", type=int, choices=range(1, 21), default=1, metavar="1..20", help="to pool latency over"
    )
    parser.add_argument("--no-align", action="store_true", help="do not follow the server's tick")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON line")
    arguments = parser.parse_args()
    if arguments.microphone == (arguments.file is not None):
        parser.error("give a file or --microphone")
    if arguments.out is None and not arguments.microphone:
        parser.error("--out is needed: the WAV file for the reply")
    return arguments


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_TAIL_S:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MAX_TAIL_S:g} seconds")
    return value


def _hello(arguments: argparse.Namespace) -> Hello:
    asked = {key: getattr(arguments, key) for key in ("voice", "style", "seed")}
    encoding, usual_hz = ("opus", 24_000) if arguments.opus else ("pcm16", 16_000)
    rate_hz = usual_hz if arguments.rate is None else arguments.rate
    return resolve(Hello, {"encoding": encoding, "sample_rate_hz": rate_hz, **asked}, "command line")


async def _speak(
    arguments: argparse.Namespace, hello: Hello, key: str | None, wave: np.ndarray
) -> list[Conversation]:
    """One session after another; without alignment each at another phase between its frames and the ticks."""
    talks: list[Conversation] = []
    began_s = time.monotonic()
    for number in range(arguments.sessions):
        async with connect(arguments.url, hello, key=key, aligns=not arguments.no_align) as talk:
            frame_s = talk.ready.frame_ms / MS_PER_S
            now_s = time.monotonic()
            phase_s = (began_s + number * frame_s / arguments.sessions - now_s) % frame_s
            await talk.speak(wave, now_s + phase_s)
        talks.append(talk)
    return talks


async def _converse(arguments: argparse.Namespace, hello: Hello, key: str | None) -> list[Conversation]:
    async with connect(arguments.url, hello, key=key, aligns=not arguments.no_align) as talk:
        with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C: what was said is reported and saved
            await converse(talk)
    return [talk]


def _print(report: Report, out: Path | None) -> None:
    if out is not None:
        print(f"reply      {out}")
    print(f"understood {report.user_transcript or '(none)'}")
    print(f"transcript {report.transcript or '(none)'}")
    lost = f"{report.late_frames} late, {report.lost_frames} lost"
    print(f"frames     {report.frames_in} in, {report.frames_out} out, {lost}")
    print(f"resumes    {report.resumes}, longest silence {report.longest_silence_ms} ms")
    for name, latency in (("reaction", report.reaction), ("server", report.server)):
        if latency is not None:
            print(f"{name:10} {latency.mean_ms} ms mean, {latency.std_ms} deviation, {latency.p99_ms} p99")
    print(f"tick       {report.ticks()}")
    print(f"own pacing {report.pacing_late_p99_ms} ms late at p99")


@exits_cleanly
def main() -> None:
    """Read, speak, save, report."""
    arguments = _arguments()
    hello = _hello(arguments)
    key = arguments.key or os.environ.get(KEY_VARIABLE)
    if arguments.out is not None:
        check_writable(arguments.out)
    if arguments.microphone:
        talks = asyncio.run(_converse(arguments, hello, key))
    else:
        wave = read_mono(arguments.file, hello.sample_rate_hz)
        wave = np.pad(wave, (0, round(arguments.tail * hello.sample_rate_hz)))
        talks = asyncio.run(_speak(arguments, hello, key, wave))
    if arguments.out is not None:
        write_wav(arguments.out, from_pcm16(talks[0].reply), talks[0].ready.sample_rate_hz)
    report = pooled(talks)
    if arguments.json:
        print(report.model_dump_json())
    else:
        _print(report, arguments.out)


if __name__ == "__main__":
    main()
