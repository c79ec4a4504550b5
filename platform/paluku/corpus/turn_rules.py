"""What the shipped Telugu turns have to keep, whoever corrects them; and what there is of them."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from paluku.corpus.turns import Intent, Row, Sheet, by_intent, row_faults

MIN_TRAINING_ASKS = 5
MIN_HELD_OUT_ASKS = 1
MAX_REPLIES = 2
MAX_WORDS = 20  # a turn of about ten seconds

# A Telugu word is a row of syllables (Unicode Standard, chapter 12): a cluster of consonants joined by virama
# with a vowel sign or a last virama, or an independent vowel; then candrabindu, anusvara or visarga, if any.
_CONSONANT, _VOWEL, _SIGN = "[క-హౘ-ౚ]", "[అ-ఔౠౡ]", "[ా-ౌౢౣ]"
_CLUSTER = f"{_CONSONANT}(?:్\u200c?{_CONSONANT})*(?:{_SIGN}|్\u200c?)?"
WORD = re.compile(rf"(?:(?:{_CLUSTER}|{_VOWEL})[ఁంః]?)+")
_ENDS = ".?!"
_MARKS = _ENDS + ","


class Count(NamedTuple):
    """How much there is. `pairs` counts every ask, held out or not, with each reply of its intent."""

    intents: int = 0
    asks: int = 0
    held_out_asks: int = 0
    replies: int = 0
    pairs: int = 0


def faults(sheets: Sequence[Sheet]) -> list[str]:
    """All that does not fit, in file order by rule: lines that begin with "file:line" and say what to do."""
    rows = list(chain.from_iterable(sheet.rows for sheet in sheets))
    single = chain.from_iterable(chain(row_faults(row), text_faults(row)) for row in rows)
    groups = chain.from_iterable(map(_intent_faults, by_intent(rows).values()))
    return [*single, *groups, *_repeated_asks(rows)]


def text_faults(row: Row) -> Iterator[str]:
    """A text that an engine cannot read aloud, or that is not written as all others are."""
    text = row.text
    if text != unicodedata.normalize("NFC", text) or text != " ".join(text.split()):
        yield f"{row.place} is not in Unicode NFC with single spaces; write the text anew"
    if any(character.isdigit() for character in text):
        yield f"{row.place} has digits; write the number in words"
    odd = [word for word in text.split() if not WORD.fullmatch(word.rstrip(_MARKS))]
    if odd:
        yield f"{row.place} {odd[0]!r} is no Telugu word; spell it in Telugu, with only {_MARKS} beside"
    if text[-1] not in _ENDS:
        yield f"{row.place} does not end in one of {_ENDS}; add it, voices need it"
    if not 1 <= len(words(text)) <= MAX_WORDS:
        yield f"{row.place} has {len(words(text))} words; say it in 1 to {MAX_WORDS}"


def words(text: str) -> tuple[str, ...]:
    """The words without their marks: what two texts have in common when they sound the same."""
    return tuple(filter(None, (word.strip(_MARKS) for word in text.split())))


def _intent_faults(rows: Sequence[Row]) -> Iterator[str]:
    first, place = rows[0], rows[0].place
    yield from (
        f"{row.place} has topic {row.topic}, its intent {first.topic}; make them one"
        for row in rows
        if row.topic != first.topic
    )
    if len({row.place.rpartition(":")[0] for row in rows}) > 1:
        yield f"{rows[-1].place} {first.intent} stands in another file too; give one of them another name"
    held_out = sum(row.role == "ask" and row.held_out == "yes" for row in rows)
    training = sum(row.role == "ask" for row in rows) - held_out
    replies = [words(row.text) for row in rows if row.role == "reply"]
    if training < MIN_TRAINING_ASKS:
        yield f"{place} {first.intent} has {training} asks to train on; write {MIN_TRAINING_ASKS} or more"
    if held_out < MIN_HELD_OUT_ASKS:
        yield f"{place} {first.intent} holds out {held_out} asks; mark {MIN_HELD_OUT_ASKS} or more"
    if not 1 <= len(set(replies)) == len(replies) <= MAX_REPLIES:
        yield f"{place} {first.intent} needs 1 to {MAX_REPLIES} different replies, not {len(replies)}"


def _repeated_asks(rows: Iterable[Row]) -> Iterator[str]:
    """An ask belongs to one intent, once: else its reply is a toss-up, or a held-out ask was trained on."""
    first: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.role != "ask":
            continue
        other = first.setdefault(words(row.text), row)
        if other is not row:
            yield f"{row.place} repeats {other.place} ({other.intent}); change or remove one"


def count_by_topic(intents: Iterable[Intent]) -> dict[str, Count]:
    """What there is of each topic, by name."""
    counts: dict[str, Count] = {}
    for intent in intents:
        counts[intent.topic] = added(counts.get(intent.topic, Count()), _count(intent))
    return dict(sorted(counts.items()))


def added(one: Count, other: Count) -> Count:
    """The sum, field by field."""
    return Count(*(a + b for a, b in zip(one, other, strict=True)))


def _count(intent: Intent) -> Count:
    asks = len(intent.asks) + len(intent.held_out_asks)
    return Count(1, asks, len(intent.held_out_asks), len(intent.replies), asks * len(intent.replies))
