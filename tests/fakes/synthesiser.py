"""A cast whose speech is known to the sample: silence, a tone for each word, silence."""

import numpy as np

from paluku.corpus.voices.port import Speech, Word
from paluku.errors import AudioError
from paluku.voices import STYLES, VOICES, StyleName, VoiceName

RATE_HZ = 16_000
SILENCE_S = 0.05
S_PER_LETTER = 0.08
BETWEEN_WORDS_S = 0.02


class FakeCast:
    """Words are tones as long as they have letters; every voice and style has a pitch of its own.

    A text of digits cannot be spoken.
    """

    reply_voices: tuple[VoiceName, ...] = VOICES
    user_voices = ("one", "two", "three", "four", "five")
    held_out_user_voices = ("six", "seven")

    def speak(self, text: str, voice: str, style: StyleName = "neutral") -> Speech:
        if text.isdigit():
            raise AudioError(f"{text!r} cannot be spoken; write it out")
        everybody = (*self.reply_voices, *self.user_voices, *self.held_out_user_voices)
        pitch_hz = 100 + 20 * everybody.index(voice) + STYLES.index(style)
        silence, between = (np.zeros(round(s * RATE_HZ)) for s in (SILENCE_S, BETWEEN_WORDS_S))
        parts, words, at_s = [silence], [], SILENCE_S
        for word in text.split():
            length_s = len(word) * S_PER_LETTER
            time_s = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
            parts += [0.3 * np.sin(2 * np.pi * pitch_hz * time_s + 0.5), between]
            words.append(Word(word, at_s, at_s + length_s))
            at_s += length_s + BETWEEN_WORDS_S
        wave = np.concatenate([*parts, silence]).astype(np.float32)
        return Speech(wave, RATE_HZ, tuple(words), is_timed=True)

    def digest(self) -> str:
        return "f" * 64
