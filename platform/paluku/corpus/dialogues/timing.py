"""When people speak: the gaps, pauses, backchannels and interruptions of a conversation, and how often."""

import math

import numpy as np
from pydantic import Field, model_validator

from paluku.config import Config

Span = tuple[float, float]  # least and most; what is drawn from it is drawn uniformly


class Gaps(Config):
    """Silence from the end of one person's turn to the start of the other's; negative is an overlap.

    A shifted log-normal, `exp(N(ln(median + shift), spread)) - shift`, clipped to `least_s` and `most_s`,
    which leaves its median alone. As set here: median 0.15 s, mean 0.2 s, three of ten overlap. Measured
    among people: median 0.1 s and mean 0.208 s over ten languages (Stivers et al. 2009, PNAS 106:10587),
    one peak, a longer tail to the right, about four of ten overlap (Heldner & Edlund 2010, Journal of
    Phonetics 38:555).
    """

    median_s: float = Field(default=0.15, ge=0, le=2)
    shift_s: float = Field(default=0.75, gt=0)
    spread: float = Field(default=0.35, ge=0, le=2)
    least_s: float = -0.5
    most_s: float = 1.5

    @model_validator(mode="after")
    def _around_the_median(self) -> "Gaps":
        if not self.least_s <= self.median_s <= self.most_s:
            raise ValueError(f"median_s {self.median_s} must lie between {self.least_s} and {self.most_s}")
        return self

    def draw(self, random: np.random.Generator) -> float:
        """One gap in seconds."""
        drawn = math.exp(random.normal(math.log(self.median_s + self.shift_s), self.spread)) - self.shift_s
        return min(max(drawn, self.least_s), self.most_s)


class Timing(Config):
    """All that happens between and within turns. Shares are of the turns in which it could happen."""

    lead_s: Span = (0.2, 0.8)  # before the first turn
    tail_s: Span = (0.3, 0.8)  # after the last
    gaps: Gaps = Gaps()

    # The user pauses within a turn that is not over: at punctuation, else between words.
    pause_share: float = Field(default=0.3, ge=0, le=1)
    pause_s: Span = (0.3, 1.2)

    # The user says a word while the reply goes on.
    backchannel_share: float = Field(default=0.35, ge=0, le=1)
    backchannels: tuple[str, ...] = ("హా", "అవును", "ఊఁ")
    backchannel_within: Span = (0.3, 0.85)  # where in the reply it begins

    # The user asks the next question before the reply is over, and the reply stops.
    interruption_share: float = Field(default=0.2, ge=0, le=1)
    interruption_openers: tuple[str, ...] = ("", "", "ఆగండి,", "ఒక్క నిమిషం,")
    interruption_within: Span = (0.3, 0.75)
    reaction_s: Span = (0.12, 0.4)  # from the interruption's first sound to the reply's silence
    fade_s: float = Field(default=0.03, gt=0, le=0.1)  # within the reaction

    min_reply_s: float = Field(default=1.6, gt=0)  # a shorter one is neither interrupted nor acknowledged

    @model_validator(mode="after")
    def _ordered(self) -> "Timing":
        spans = {name: value for name, value in self if isinstance(value, tuple) and name in SPANS}
        for name, (least, most) in spans.items():
            if not 0 <= least <= most:
                raise ValueError(f"{name} {least} to {most} must be 0 or more, the lesser first")
        for name in ("backchannel_within", "interruption_within"):
            if spans[name][1] > 0.9:
                raise ValueError(
                    f"{name} ends at {spans[name][1]}; a reply's last tenth is too late, at most 0.9"
                )
        if self.reaction_s[0] < self.fade_s:
            raise ValueError(
                f"reaction_s begins at {self.reaction_s[0]}, before a fade of {self.fade_s} s can end"
            )
        if not self.backchannels or not self.interruption_openers:
            raise ValueError('backchannels and interruption_openers need a text each ("" opens with nothing)')
        return self


SPANS = ("lead_s", "tail_s", "pause_s", "backchannel_within", "interruption_within", "reaction_s")
