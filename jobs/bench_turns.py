"""Which rule tells backchannels from interruptions: a row for each, the last line is JSON.

Telugu phrases (jobs/configs/bench_turns.tsv) by ten eSpeak voices at three speeds in 20 dB of noise, over
an audible reply; `--recordings FOLDER` adds real speech, all of which must interrupt.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jobs.listening import RATE_HZ, SAMPLES, Heard, heard, probabilities
from paluku.audio import read_mono, resample
from paluku.corpus.voices.cast import Cast
from paluku.errors import exits_cleanly
from paluku.streaming.turns import Interrupt, TurnConfig, TurnTracker
from paluku.units import FRAME_MS

PHRASES = Path(__file__).parent / "configs" / "bench_turns.tsv"
SPEEDS, NOISE_DB = (0.88, 1.0, 1.14), -20.0
MAX_RECORDINGS, MAX_RECORDING_S = 150, 5
DURATIONS_MS, SOUNDS = (400, 600, 800, 1_000, 1_200), (8, 10, 12, 13, 14, 16)
REPLY = np.full(SAMPLES, 9_000, np.int16)


def utterances(recordings: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Kinds and waves."""
    cast = Cast()
    lines = [line for line in PHRASES.read_text("utf-8").splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines, delimiter="\t"):
        for voice, speed in ((voice, speed) for voice in cast.user_voices for speed in SPEEDS):
            speech = cast.speak(row["text"], voice)
            yield row["kind"], resample(speech.wave, round(speech.rate_hz * speed), RATE_HZ)
    for path in sorted(recordings.rglob("*.flac"))[:MAX_RECORDINGS] if recordings else ():
        yield "real", read_mono(path, RATE_HZ)[: MAX_RECORDING_S * RATE_HZ]


def fired_ms(sound: Heard, judged: np.ndarray, config: TurnConfig) -> float | None:
    """From the speech's start to the end of the frame that interrupts; None when none does."""
    tracker = TurnTracker(config, FRAME_MS)
    for number, (pcm, probability) in enumerate(zip(sound.frames, judged.tolist(), strict=True)):
        if any(isinstance(event, Interrupt) for event in tracker.observe(number, probability, pcm, REPLY)):
            return (number + 1 - sound.first) * FRAME_MS
    return None


@exits_cleanly
def main() -> None:
    """Speak, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path)
    rng, sounds = np.random.default_rng(0), defaultdict(list)
    for kind, wave in utterances(parser.parse_args().recordings):
        sound = heard(wave, NOISE_DB, rng)
        sounds[kind].append((sound, probabilities(sound.frames)))
    rules = {f"{ms} ms": TurnConfig(interrupt_sounds=0, interrupt_after_ms=ms) for ms in DURATIONS_MS}
    rules |= {f"{count} sounds": TurnConfig(interrupt_sounds=count) for count in SOUNDS}
    table = defaultdict(dict)
    print("| rule |", *(f"{kind} ({len(all_of)}) |" for kind, all_of in sounds.items()))
    for rule, config in rules.items():
        for kind, all_of in sounds.items():
            times = [ms for sound, judged in all_of if (ms := fired_ms(sound, judged, config)) is not None]
            p50, p95 = np.percentile(times, [50, 95]).round().tolist() if times else (None, None)
            table[rule][kind] = {"share": round(len(times) / len(all_of), 3), "p50_ms": p50, "p95_ms": p95}
        cells = (f"{c['share']:.1%}, {c['p50_ms']} / {c['p95_ms']} |" for c in table[rule].values())
        print(f"| {rule} |", *cells, flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
