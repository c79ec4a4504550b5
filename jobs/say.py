"""Say a Telugu sentence, to listen to voices: `say.py TEXT --voice priya --style happy --out a.wav`.

`--voice all` or `--style all` with `--out FOLDER` makes a WAV of each. What each engine costs, in seconds of
processor time for a second of sound, stands in the last line, which is JSON.
"""

import argparse
import itertools
import json
import os
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.voices import find_hts_voice
from paluku.audio import check_writable, write_wav
from paluku.config import load
from paluku.corpus.voices.cast import Cast, CastConfig
from paluku.corpus.voices.pitch import track
from paluku.errors import exits_cleanly
from paluku.voices import STYLES, VOICES, StyleName

ALL = "all"


def cpu_s() -> float:
    """Processor time of this process and of the programs that it ran."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--voice", default=VOICES[0], help="of the cast, or all")
    parser.add_argument("--style", default=STYLES[0], choices=(*STYLES, ALL))
    parser.add_argument("--cast", type=Path, help="a YAML file such as jobs/configs/voices.all.yaml")
    parser.add_argument("--out", type=Path, default=Path("said.wav"), help="a WAV, or for all a folder")
    return parser.parse_args()


@exits_cleanly
def main() -> None:
    """Speak, write, print."""
    arguments = parse()
    find_hts_voice()
    cast = Cast(load(CastConfig, arguments.cast) if arguments.cast else CastConfig())
    everybody = (*cast.reply_voices, *cast.user_voices, *cast.held_out_user_voices)
    voices = everybody if arguments.voice == ALL else (arguments.voice,)
    styles: tuple[StyleName, ...] = STYLES if arguments.style == ALL else (arguments.style,)
    many = len(voices) * len(styles) > 1
    check_writable(arguments.out / "a.wav" if many else arguments.out)
    table = Table("voice", "engine", "style", "seconds", "median Hz", "range st", "words from")
    spent: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for voice, style in itertools.product(voices, styles):
        before, engine = cpu_s(), cast.person(voice).engine
        speech = cast.speak(arguments.text, voice, style)
        spent[engine][0] += cpu_s() - before
        spent[engine][1] += (seconds := len(speech.wave) / speech.rate_hz)
        write_wav(
            arguments.out / f"{voice}.{style}.wav" if many else arguments.out, speech.wave, speech.rate_hz
        )
        pitch = track(speech.wave, speech.rate_hz)
        cells = (f"{seconds:.2f}", f"{pitch.median_hz:.0f}", f"{pitch.range_semitones:.1f}")
        table.add_row(voice, engine, style, *cells, "engine" if speech.is_timed else "estimate")
    Console().print(table)
    cost = {engine: round(cpu / sound, 4) for engine, (cpu, sound) in spent.items()}
    print(json.dumps({"out": str(arguments.out), "cost_s_per_s": cost}))


if __name__ == "__main__":
    main()
