"""What was judged of conversations, in numbers: the same ones for a model and for the recorded replies."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from paluku.corpus.voices.styles import STYLE_PROSODY
from paluku.evals.s2s_answers import letters
from paluku.evals.s2s_cases import BACKCHANNEL, INTERRUPTION
from paluku.evals.s2s_entropy import FIRST_CODEBOOK, TEXT, Entropy
from paluku.evals.s2s_judges import Sounds
from paluku.evals.s2s_sound import Change
from paluku.evals.s2s_turns import Exchange, Held, Interjection
from paluku.tokens.distance import edit_distance
from paluku.voices import STYLES, StyleName

# A reply stops in time when it is silent so long after the user's first sound, on the conversation's time: a
# listener's clock adds the same lag to it as to everything (`s2s_drive`).
STOP_MS = 120.0
# What the dialogues' own replies take at most.
GIVEN_WAY_MS = 400.0
# Changes of manner that are to be heard; what the table asks for below these is not judged. Of rate and range
# the logarithm to base 2.
LEAST_CHANGE = Change(rate=math.log2(1.05), pitch_semitones=1.0, pitch_range=math.log2(1.25), energy_db=1.0)
# Of what the table asks for, so much at least has to be heard, in the same direction.
LEAST_SHARE = 0.5

Number = float | int | None


class Judged(NamedTuple):
    """One conversation and what was heard in it."""

    held: Held
    sounds: Sounds


class StyleRow(NamedTuple):
    """How one style was rendered: medians over its replies."""

    style: StyleName
    replies: int
    asked: Change
    measured: Change
    agrees: Change  # 1 or 0 by measure, NaN where nothing audible is asked for


def numbers(judged: Sequence[Judged]) -> dict[str, Number]:
    """All of what conversations show; None where there was nothing to measure."""
    exchanges = [each for one in judged for each in one.held.exchanges]
    found = [each for one in judged for each in one.held.interjections]
    return {
        "sessions": len(judged),
        **_of_replies(exchanges),
        **_of_gaps(exchanges),
        **_of_interjections(found),
        **_of_sounds(judged),
        "user_cer": user_error(one.held for one in judged),
    }


def of_entropies(entropies: Sequence[Entropy]) -> dict[str, Number]:
    """`perplexity` is the first codebook's, `cross_entropy` the greater of its own and the text stream's."""
    known = {each.stream: each for each in entropies}
    of_both = [known[name].nats for name in (TEXT, FIRST_CODEBOOK) if name in known]
    return {
        "perplexity": known[FIRST_CODEBOOK].perplexity if FIRST_CODEBOOK in known else None,
        "cross_entropy": max(of_both, default=None),
        **{f"cross_entropy_{name}": each.nats for name, each in known.items()},
    }


def _of_replies(exchanges: Sequence[Exchange]) -> dict[str, Number]:
    judged = [each for each in exchanges if each.fit is not None]
    first = [each for each in judged if each.number == 0]
    later = [
        after
        for before, after in itertools.pairwise(exchanges)
        if after.number == before.number + 1 and before.is_right and after.fit is not None
    ]
    return {
        "replies": len(judged),
        "reply_accuracy": _share(each.is_right for each in judged),
        "reply_error": _mean(each.fit.right_error for each in judged if each.fit),
        "reply_accuracy_first": _share(each.is_right for each in first),
        "reply_accuracy_after_right": _share(each.is_right for each in later),
        "answered": _share(each.start_s is not None and bool(each.said) for each in exchanges),
    }


def _of_gaps(exchanges: Sequence[Exchange]) -> dict[str, Number]:
    gaps = [each.gap_ms for each in exchanges if each.gap_ms is not None]
    p10, median, p90 = np.percentile(gaps, [10, 50, 90]).tolist() if gaps else (None, None, None)
    below = _share(gap < 0 for gap in gaps)
    return {"gap_ms_median": median, "gap_ms_p10": p10, "gap_ms_p90": p90, "gap_share_below_0": below}


def _of_interjections(found: Sequence[Interjection]) -> dict[str, Number]:
    interruptions, backchannels = (
        [each for each in found if each.is_during_reply and each.kind == kind]
        for kind in (INTERRUPTION, BACKCHANNEL)
    )
    stops = [math.inf if each.stop_ms is None else each.stop_ms for each in interruptions]
    return {
        "interruptions": len(interruptions),
        "interruption_stop_rate": _share(stop <= STOP_MS for stop in stops),
        "interruption_stop_rate_400": _share(stop <= GIVEN_WAY_MS for stop in stops),
        "interruption_stop_ms_median": finite(float(np.median(stops))) if stops else None,
        "backchannels": len(backchannels),
        "backchannel_hold_rate": _share(each.went_on for each in backchannels),
    }


def _of_sounds(judged: Sequence[Judged]) -> dict[str, Number]:
    errors = [error for one in judged for error in one.sounds.errors if error is not None]
    alike = [one.sounds.likeness for one in judged if one.sounds.likeness]
    cells = [cell for row in styles(judged) for cell in row.agrees if not math.isnan(cell)]
    return {
        "cer_romanised": _mean(errors),
        "speaker_cosine": _mean(each.own for each in alike),
        "speaker_cosine_coded": _mean(each.own_coded for each in alike if each.own_coded is not None),
        "speaker_top1": _share(each.is_nearest for each in alike),
        "style_agreement": _mean(cells),
    }


def styles(judged: Sequence[Judged]) -> list[StyleRow]:
    """A row for each style with replies of a measurable manner."""
    found: dict[StyleName, list[Change]] = {}
    for one in judged:
        found.setdefault(one.held.style, []).extend(change for change in one.sounds.changes if change)
    return [_style_row(style, found[style]) for style in STYLES if found.get(style)]


def _style_row(style: StyleName, changes: Sequence[Change]) -> StyleRow:
    table = STYLE_PROSODY[style]
    asked = Change(table.rate, table.pitch_semitones, table.pitch_range, table.energy_db)
    measured = Change(*(float(np.median(column)) for column in zip(*changes, strict=True)))
    agrees = Change(*map(_agrees, _scaled(asked), _scaled(measured), LEAST_CHANGE))
    return StyleRow(style, len(changes), asked, measured, agrees)


def _agrees(asked: float, measured: float, least: float) -> float:
    if abs(asked) < least:
        return math.nan
    return float(measured / asked >= LEAST_SHARE)


def _scaled(change: Change) -> Change:
    """Each so that nothing is 0, and half as much is half."""
    return change._replace(rate=math.log2(change.rate), pitch_range=math.log2(change.pitch_range))


def user_error(held: Iterable[Held]) -> Number:
    """Edits a character, over all that the users said."""
    edits = count = 0
    for one in held:
        said = letters("".join(turn.text for turn in one.case.turns))
        edits += edit_distance(letters(one.understood), said)
        count += len(said)
    return edits / count if count else None


def finite(value: Number) -> Number:
    """What JSON and MLflow can hold."""
    return value if value is not None and math.isfinite(value) else None


def of_voices(judged: Sequence[Judged]) -> dict[str, Mapping[str, Number]]:
    """By the voice that was asked for: conversations, mean cosine to each voice, share nearest to its own."""
    found: dict[str, Mapping[str, Number]] = {}
    for voice in sorted({one.held.voice for one in judged}):
        alike = [one.sounds.likeness for one in judged if one.held.voice == voice and one.sounds.likeness]
        if alike:
            cosines = {name: _mean(each.cosines[name] for each in alike) for name in alike[0].cosines}
            found[voice] = {"n": len(alike), "top1": _share(each.is_nearest for each in alike), **cosines}
    return found


def _share(values: Iterable[bool]) -> Number:
    return _mean(map(float, values))


def _mean(values: Iterable[float]) -> Number:
    known = list(values)
    return sum(known) / len(known) if known else None
