"""The four reply voices and the nine styles: the names every stage, protocol and page agrees on."""

from typing import Literal, NamedTuple, get_args

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


class Voice(NamedTuple):
    """Who a reply voice is meant to sound like."""

    title: str
    sex: Literal["male", "female"]
    character: str


CAST: dict[VoiceName, Voice] = {
    "arjun": Voice("Arjun", "male", "young"),
    "ravi": Voice("Ravi", "male", "mature"),
    "priya": Voice("Priya", "female", "young"),
    "lakshmi": Voice("Lakshmi", "female", "professional"),
}
