"""A synthesiser whose speech is known to the sample: silence, a tone as long as the text, silence."""

import numpy as np

from paluku.errors import AudioError

RATE_HZ = 16_000
SILENCE_S = 0.05
S_PER_CHARACTER = 0.1


class FakeSynthesiser:
    """Every voice has a pitch of its own; a text of digits cannot be spoken."""

    voices = ("arjun", "ravi", "priya", "lakshmi", "one", "two", "three")

    def speak(self, text: str, voice: str) -> tuple[np.ndarray, int]:
        if text.isdigit():
            raise AudioError(f"{text!r} cannot be spoken; write it out")
        time_s = np.arange(round(len(text) * S_PER_CHARACTER * RATE_HZ)) / RATE_HZ
        tone = np.sin(2 * np.pi * (100 + 20 * self.voices.index(voice)) * time_s + 0.5)
        return np.pad(tone, round(SILENCE_S * RATE_HZ)).astype(np.float32), RATE_HZ
