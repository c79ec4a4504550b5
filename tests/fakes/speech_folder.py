"""A folder of real speech for tests: sentences of eSpeak NG as audio files, a subfolder a speaker."""

import shutil
from pathlib import Path

import numpy as np
import soundfile

from paluku.corpus.voices.cast import Cast

SENTENCES = ("నమస్కారం, మీరు ఎలా ఉన్నారు?", "ఈ రోజు వాతావరణం చాలా బాగుంది.")
SPEAKERS = 8
BROKEN, COPY = "speaker-3/broken.flac", "speaker-5/copy.flac"


def write_speech(folder: Path) -> Path:
    """Sixteen recordings of eight speakers, a broken one, and one that comes a second time."""
    cast = Cast()
    voices = cast.user_voices[:SPEAKERS]
    for number, voice in enumerate(voices):
        below = folder / f"speaker-{number}"
        below.mkdir(parents=True)
        for index, sentence in enumerate(SENTENCES):
            speech = cast.speak(sentence, voice)
            # No room is silent: digital silence would make every recording infinitely clean.
            noise = np.random.default_rng(10 * number + index).normal(0, 1e-4, len(speech.wave))
            soundfile.write(below / f"{index}.flac", speech.wave + noise, speech.rate_hz, "PCM_16")
    (folder / BROKEN).write_bytes(b"fLaC and nothing more")
    shutil.copy(folder / "speaker-4" / "0.flac", folder / COPY)
    return folder
