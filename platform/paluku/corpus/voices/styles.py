"""The nine styles as prosody: the one table (docs/voices.md shows it).

Directions follow Murray & Arnott 1993, "Toward the simulation of emotion in synthetic speech" (JASA
93:1097): joy and excitement are quicker, higher, wider and louder, sadness and tenderness slower, lower,
narrower and softer. The amounts are ours: audible, and below what makes the engines sound broken.
telugu_heavy and telugu_mild are a choice, as no engine here has accents: heavy is the measured, strongly
melodic delivery of stage and radio, mild the quick and even one of urban small talk.
"""

from paluku.corpus.voices.port import Prosody
from paluku.voices import StyleName

STYLE_PROSODY: dict[StyleName, Prosody] = {
    "neutral": Prosody(),
    "happy": Prosody(rate=1.08, pitch_semitones=2.0, pitch_range=1.3, energy_db=2.0, pauses=0.9),
    "laugh": Prosody(rate=1.05, pitch_semitones=2.0, pitch_range=1.3, energy_db=1.0, laugh=True),
    "excited": Prosody(rate=1.18, pitch_semitones=3.5, pitch_range=1.5, energy_db=4.0, pauses=0.6),
    "empathy": Prosody(rate=0.87, pitch_semitones=-1.5, pitch_range=0.7, energy_db=-3.0, pauses=1.4),
    "surprise": Prosody(rate=1.05, pitch_semitones=4.0, pitch_range=1.6, energy_db=3.0, pauses=1.2),
    "thinking": Prosody(rate=0.80, pitch_semitones=-1.0, pitch_range=0.6, energy_db=-2.0, pauses=2.0),
    "telugu_heavy": Prosody(rate=0.90, pitch_range=1.5, energy_db=1.5, pauses=1.3),
    "telugu_mild": Prosody(rate=1.08, pitch_range=0.6, energy_db=-1.5, pauses=0.8),
}


def styled(base: Prosody, style: StyleName) -> Prosody:
    """A voice's own prosody with a style upon it, held within what `Prosody` allows."""
    over = STYLE_PROSODY[style]
    return Prosody(
        rate=_within(base.rate * over.rate, 0.35, 2.9),
        pitch_semitones=_within(base.pitch_semitones + over.pitch_semitones, -12, 12),
        pitch_range=_within(base.pitch_range * over.pitch_range, 0, 3),
        energy_db=_within(base.energy_db + over.energy_db, -12, 12),
        pauses=_within(base.pauses * over.pauses, 0.25, 4),
        laugh=base.laugh or over.laugh,
    )


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
