"""Many more people for a cast, drawn by chance: who has heard few voices in training understands no others.

People of one recording are as alike as their settings: nobody is drawn who is nearly one of the held-out.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from pydantic import Field

from paluku.config import Config
from paluku.corpus.splits import fraction, generator
from paluku.corpus.voices import espeak
from paluku.corpus.voices.festival import FestivalVoice
from paluku.corpus.voices.hts import HtsVoice
from paluku.corpus.voices.port import Prosody

# From a large man's vocal tract to a child's; pitch goes with it, give or take.
_FORMANTS = (0.84, 1.28)
_ALPHAS = (0.55, 0.35)
_LOWEST_HZ, _OCTAVES, _SPREAD = 80.0, 1.5, 0.15
_LOWEST_HALF_TONE = -12.0
# Nearer than both to a held-out voice is too near: vocal tracts by a share or in `alpha`, pitch in octaves.
_NEAR_FORMANTS, _NEAR_ALPHA, _NEAR_OCTAVES = 0.03, 0.015, 0.2
Voice = TypeVar("Voice", FestivalVoice, HtsVoice)

# A whisper is no voice; the peaks of these would keep them below the level of the others.
_UNFIT = ("whisper", "whisperf", "klatt", "klatt2")


class CrowdConfig(Config):
    """How many users of each engine beside those that are named. None is held out."""

    espeak: int = Field(default=0, ge=0)  # each a variant of its own, of about 90
    festival: int = Field(default=0, ge=0)
    hts: int = Field(default=0, ge=0)
    seed: int = 0


def espeak_voices(config: CrowdConfig, taken: Iterable[str]) -> dict[str, Prosody]:
    """Variants that nobody in `taken` has, each with the prosody of the person who is given it.

    Raises:
        ValueError: when there are not that many.
    """
    free = sorted({*espeak.variants()} - {*taken, *_UNFIT})
    if config.espeak > len(free):
        raise ValueError(f"crowd.espeak is {config.espeak}, and eSpeak NG has {len(free)} variants left")
    free.sort(key=lambda variant: fraction(f"crowd/espeak/{variant}", config.seed))
    return {variant: _prosody(variant, config.seed) for variant in free[: config.espeak]}


def festival_voices(config: CrowdConfig, held_out: Sequence[FestivalVoice]) -> dict[str, FestivalVoice]:
    """Festival's recorded man made as many people, by name."""
    return {
        f"crowd_m{number}": _apart(f"crowd/festival/{number}", config.seed, _festival, held_out)
        for number in range(config.festival)
    }


def hts_voices(config: CrowdConfig, held_out: Sequence[HtsVoice]) -> dict[str, HtsVoice]:
    """HTS's recorded woman made as many people, by name."""
    return {
        f"crowd_f{number}": _apart(f"crowd/hts/{number}", config.seed, _hts, held_out)
        for number in range(config.hts)
    }


def are_near(one: FestivalVoice | HtsVoice, other: FestivalVoice | HtsVoice) -> bool:
    """Whether two voices of one recording are as good as one person."""
    return all(abs(a - b) < 1 for a, b in zip(_place(one), _place(other), strict=True))


def _place(voice: FestivalVoice | HtsVoice) -> tuple[float, float]:
    """Vocal tract and pitch, each in the distance that is near."""
    if isinstance(voice, FestivalVoice):
        return math.log(voice.formants) / _NEAR_FORMANTS, math.log2(voice.f0_hz) / _NEAR_OCTAVES
    return voice.alpha / _NEAR_ALPHA, voice.half_tones / (12 * _NEAR_OCTAVES)


def sounds_female(voice: FestivalVoice | HtsVoice) -> bool:
    """What a listener would guess from the vocal tract."""
    return voice.formants > 1.1 if isinstance(voice, FestivalVoice) else voice.alpha < 0.46


def _prosody(variant: str, seed: int) -> Prosody:
    draw = generator(f"crowd/espeak/{variant}", seed)
    return Prosody(
        rate=round(draw.uniform(0.87, 1.15), 3),
        pitch_semitones=round(draw.uniform(-3, 3), 2),
        pitch_range=round(draw.uniform(0.7, 1.4), 2),
    )


def _apart(
    name: str, seed: int, make: Callable[[np.random.Generator], Voice], held_out: Sequence[Voice]
) -> Voice:
    """The first that is drawn by that name and near nobody held out."""
    draw = generator(name, seed)
    voice = make(draw)
    while any(are_near(voice, other) for other in held_out):
        voice = make(draw)
    return voice


def _festival(draw: np.random.Generator) -> FestivalVoice:
    size, octaves = _tract(draw)
    hz = _LOWEST_HZ * 2**octaves
    return FestivalVoice(
        f0_hz=round(hz, 1),
        f0_std_hz=round(hz * draw.uniform(0.08, 0.18), 1),
        stretch=round(draw.uniform(0.95, 1.3), 3),
        formants=round(float(np.interp(size, (0, 1), _FORMANTS)), 3),
    )


def _hts(draw: np.random.Generator) -> HtsVoice:
    size, octaves = _tract(draw)
    return HtsVoice(
        alpha=round(float(np.interp(size, (0, 1), _ALPHAS)), 3),
        half_tones=round(float(np.clip(_LOWEST_HALF_TONE + 12 * octaves, -12, 12)), 2),
        rate=round(draw.uniform(0.88, 1.12), 3),
    )


def _tract(draw: np.random.Generator) -> tuple[float, float]:
    """How short it is, in [0, 1], and how many octaves above the lowest the voice lies."""
    size = float(draw.uniform())
    return size, size * _OCTAVES + float(draw.normal(0, _SPREAD))
