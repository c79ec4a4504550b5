"""Detectors of speech: missed speech, false alarms, delay (p50 / p95 ms); the last line is Silero's cost.

Each folder of FLAC files in RECORDINGS is a row. Speech is what is at most 25 dB below its loud frames.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webrtcvad

from jobs.listening import LEAD_FRAMES, RATE_HZ, SAMPLES, Heard, heard, probabilities
from paluku.audio import read_mono
from paluku.errors import exits_cleanly
from paluku.streaming.vad import SileroVad
from paluku.units import FRAME_RATE_HZ, MS_PER_S

PER_FOLDER, MAX_S = 20, 6
NOISES = {"clean": None, "20 dB": -20.0, "10 dB": -10.0, "5 dB": -5.0}
SESSIONS, TICKS, SPEECH_DB = (1, 12, 100), 50, 25.0


def webrtc(frames: np.ndarray) -> np.ndarray:
    """WebRTC's in its strictest mode: the share of a frame's two halves that it takes for speech."""
    vad, halves = webrtcvad.Vad(3), frames.reshape(-1, 2, SAMPLES // 2)
    return np.array([np.mean([vad.is_speech(half.tobytes(), RATE_HZ) for half in pair]) for pair in halves])


DETECTORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"silero": probabilities, "webrtc": webrtc}


def judged(sound: Heard, probability: np.ndarray) -> tuple[float, float, float]:
    """Missed share of the speech, false share of what is none, and the delay in ms (NaN: never found)."""
    level = 10 * np.log10((sound.clean**2).mean(axis=1) + 1e-12)
    speech = level > np.percentile(level[LEAD_FRAMES:], 95) - SPEECH_DB
    first, last = np.flatnonzero(speech)[[0, -1]]
    said = probability >= 0.5
    none = np.r_[said[: first - 1], said[last + FRAME_RATE_HZ // 2 :]]
    found = np.flatnonzero(said[first:-1] & said[first + 1 :])
    delay_ms = (found[0] + 1) / FRAME_RATE_HZ * MS_PER_S if len(found) else np.nan
    return 1 - said[speech].mean(), none.mean(), delay_ms


def cost_ms(sessions: int) -> float:
    """Processor time of Silero's ticks, the median: others on the machine count for less."""
    vad, rng, spent_s = SileroVad(RATE_HZ), np.random.default_rng(0), []
    frames = {str(i): rng.integers(-2_000, 2_000, SAMPLES).astype(np.int16) for i in range(sessions)}
    for _ in range(TICKS):
        began_s = time.thread_time()
        vad.probabilities(frames)
        spent_s.append(time.thread_time() - began_s)
    return round(float(np.median(spent_s)) * MS_PER_S, 2)


@exits_cleanly
def main() -> None:
    """Listen, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS")
    rng, results = np.random.default_rng(0), defaultdict(list)
    for folder in sorted(path for path in parser.parse_args().recordings.iterdir() if path.is_dir()):
        files = sorted(folder.rglob("*.flac"))
        for path in files[:: max(1, len(files) // PER_FOLDER)][:PER_FOLDER]:
            wave = read_mono(path, RATE_HZ)[: MAX_S * RATE_HZ]
            for noise, noise_db in NOISES.items():
                sound = heard(wave, noise_db, rng)
                for name, detect in DETECTORS.items():
                    results[name, folder.name, noise].append(judged(sound, detect(sound.frames)))
    for (name, source, noise), rows in results.items():
        (missed, false, _), late = np.mean(rows, axis=0), np.nanpercentile([r[2] for r in rows], [50, 95])
        print(f"| {name} | {source} | {noise} | {missed:.1%} | {false:.1%} | {late[0]:.0f} / {late[1]:.0f} |")
    print(json.dumps({"silero_ms": {sessions: cost_ms(sessions) for sessions in SESSIONS}}))


if __name__ == "__main__":
    main()
