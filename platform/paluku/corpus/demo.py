"""A question to speak to a freshly deployed model: a person's voice where there is one, else eSpeak NG's."""

from pathlib import Path

import numpy as np

from paluku import audio
from paluku.corpus.media import decode
from paluku.corpus.sources.config import open_source
from paluku.corpus.sources.folder import FolderConfig
from paluku.corpus.voices.espeak import Espeak
from paluku.corpus.voices.levels import at_level
from paluku.corpus.voices.port import Prosody
from paluku.errors import AudioError

QUESTION = "నమస్కారం, మీరు ఎలా ఉన్నారు?"
USER_VOICE = "f1"
RATE_HZ = 24_000  # of a recording, whatever file it lies in

# Long enough for a reply to begin, short enough to listen to.
MIN_S, MAX_S = 3.0, 12.0


def demo_question(recordings: Path | None, out: Path) -> Path:
    """Write a WAV file of a few seconds, Telugu where there is some, and give its path.

    Raises:
        CorpusError: when the folder of recordings is given and cannot be listed.
        AudioError: when nothing can be read or the file cannot be written.
    """
    wave = _recorded(recordings) if recordings is not None else None
    if wave is not None:
        audio.write_wav(out, wave, RATE_HZ)
        return out
    spoken = Espeak().speak(QUESTION, USER_VOICE, Prosody())
    audio.write_wav(out, at_level(spoken.wave), spoken.rate_hz)
    return out


def _recorded(recordings: Path) -> np.ndarray | None:
    """The first recording of a fitting length that can be decoded, Telugu first."""
    source = open_source(FolderConfig(folder=str(recordings.absolute())))
    fitting = [utterance for utterance in source.iterate() if MIN_S <= utterance.duration_s <= MAX_S]
    for utterance in sorted(fitting, key=lambda u: (u.language != "te", u.id)):
        try:
            return decode(utterance, RATE_HZ).wave
        except AudioError:
            continue  # a broken file is reported when the corpus is built; here the next one does
    return None
