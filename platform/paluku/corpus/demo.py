"""A question to speak to a freshly deployed model: a person's voice where there is one, else eSpeak NG's."""

from pathlib import Path

from paluku import audio
from paluku.corpus.espeak import Espeak
from paluku.corpus.sources import RecordingFolder, Utterance
from paluku.corpus.synthesis import at_level
from paluku.errors import AudioError

QUESTION = "నమస్కారం, మీరు ఎలా ఉన్నారు?"
USER_VOICE = "user_f1"

# Long enough for a reply to begin, short enough to listen to.
MIN_S, MAX_S = 3.0, 12.0


def demo_question(recordings: Path | None, out: Path) -> Path:
    """Write a WAV file of a few seconds, Telugu where there is some, and give its path.

    Raises:
        CorpusError: when the folder of recordings is given and cannot be listed.
        AudioError: when nothing can be read or the file cannot be written.
    """
    chosen = _choose(recordings) if recordings is not None else None
    if chosen is not None and chosen.path is not None:
        wave, rate_hz = audio.read(chosen.path)
        wave = wave.mean(axis=1)
    else:
        wave, rate_hz = Espeak().speak(QUESTION, USER_VOICE)
        wave = at_level(wave)
    audio.write_wav(out, wave, rate_hz)
    return out


def _choose(recordings: Path) -> Utterance | None:
    """The first recording of a fitting length that can be decoded, Telugu first."""
    fitting = [u for u in RecordingFolder(recordings).utterances() if MIN_S <= u.duration_s <= MAX_S]
    for utterance in sorted(fitting, key=lambda u: (u.language != "te", u.id)):
        try:
            audio.read(utterance.path or Path())
        except AudioError:
            continue  # a broken file is reported when the corpus is built; here the next one does
        return utterance
    return None
