"""The four reply voices and the nine styles: the names every stage, protocol and page agrees on."""

from typing import Literal, get_args

VoiceName = Literal["arjun", "ravi", "priya", "lakshmi"]
StyleName = Literal[
    "neutral",
    "happy",
    "laugh",
    "excited",
    "empathy",
    "surprise",
    "thinking",
    "telugu_heavy",
    "telugu_mild",
]

VOICES: tuple[VoiceName, ...] = get_args(VoiceName)
STYLES: tuple[StyleName, ...] = get_args(StyleName)
