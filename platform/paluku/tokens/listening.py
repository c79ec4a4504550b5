"""Recordings of single utterances as dialogues in which nobody answers: for a language without dialogues yet.

The user says the utterance and our side is silent. A model learns from it how the language sounds, its words
as they are heard, and not to speak while the other does; nothing of answering.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from paluku.audio import read, to_flac
from paluku.corpus.splits import fraction
from paluku.corpus.voices.alignment import estimate
from paluku.tokens.extract import AGENT, HEARD_AFTER, USER
from paluku.tokens.text import TextTokenizer
from paluku.voices import VOICES

# Before the user begins; after the end the transcript needs room.
LEAD_S = 0.2


def listened(row: Mapping[str, Any], tokenizer: TextTokenizer, frame_rate_hz: float) -> dict[str, Any]:
    """A row of the utterances schema as one of the dialogues schema (`corpus.shards.SCHEMAS`).

    The words' places are ESTIMATED from the wave and the letters; what has no text has no turn. The voice
    that is silent is drawn by the id, so that none is known by its silence.

    Raises:
        AudioError: when the audio cannot be decoded.
    """
    wave, rate_hz = read(row["audio"], row["id"])
    text = row["text"] or ""
    tail_s = (HEARD_AFTER + len(tokenizer.encode(f" {text}"))) / frame_rate_hz
    lead, length = round(LEAD_S * rate_hz), len(wave)
    both = np.zeros((lead + length + round(tail_s * rate_hz), 2), np.float32)
    both[lead : lead + length, USER] = wave[:, 0]
    words = [
        {"text": word.text, "start_s": LEAD_S + word.start_s, "end_s": LEAD_S + word.end_s}
        for word in estimate(text, wave[:, 0], rate_hz)
    ]
    span = {"start_s": LEAD_S, "end_s": LEAD_S + length / rate_hz}
    turn = {"role": "user", "text": text, "kind": "turn", "words": words, "is_timed": False, **span}
    assert not both[:, AGENT].any(), "our side is silent"
    return {
        "id": row["id"],
        "split": row["split"],
        "audio": to_flac(both, rate_hz),
        "voice": VOICES[int(fraction(row["id"], 0) * len(VOICES))],
        "style": "neutral",
        "turns": [turn] if text else [],
    }
