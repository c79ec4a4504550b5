"""What the demo says to a freshly deployed model.

A conversation: held-out wordings of a few shipped intents in a voice that no model was trained on. And a
question to measure by: a person's voice where there is one, else eSpeak NG's.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from paluku import audio
from paluku.corpus.media import decode
from paluku.corpus.sources.config import open_source
from paluku.corpus.sources.folder import FolderConfig
from paluku.corpus.turns import read_intents
from paluku.corpus.voices.cast import Cast, CastConfig
from paluku.corpus.voices.espeak import Espeak
from paluku.corpus.voices.levels import at_level
from paluku.corpus.voices.port import Prosody
from paluku.errors import AudioError

QUESTION = "నమస్కారం, మీరు ఎలా ఉన్నారు?"
USER_VOICE = "f1"
RATE_HZ = 24_000  # of a recording, whatever file it lies in

# What the conversation is about, and how long a reply is waited for.
INTENTS = ("greet.hello", "name.yours", "thanks.simple")
REPLY_S = 5.0

# Long enough for a reply to begin, short enough to listen to.
MIN_S, MAX_S = 3.0, 12.0


class Conversation(NamedTuple):
    """A sound file of a user's turns, with time for a reply after each, and what is said in it."""

    path: Path
    asks: tuple[str, ...]


def demo_conversation(out: Path) -> Conversation:
    """Write the first held-out wording of each of `INTENTS`, in the cast's first held-out voice.

    Raises:
        AudioError: when the file cannot be written.
    """
    known = {intent.name: intent for intent in read_intents()}
    asks = tuple(known[name].held_out_asks[0] for name in INTENTS)
    cast = Cast(CastConfig())
    turns = [cast.speak(ask, cast.held_out_user_voices[0], "neutral") for ask in asks]
    rate_hz = turns[0].rate_hz
    pause = np.zeros(round(REPLY_S * rate_hz), np.float32)
    audio.write_wav(
        out, np.concatenate([part for turn in turns for part in (at_level(turn.wave), pause)]), rate_hz
    )
    return Conversation(out, asks)


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
