"""Scripts in which the user speaks and nobody answers: much to learn hearing from, at half a dialogue's cost.

A dialogue spends most of its sound on replies, of which there are few, and draws its asks by chance: of 4,600
asks 1,600 dialogues say less than half. These say each once.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from paluku.corpus.splits import generator
from paluku.corpus.turns import Intent, Script, ScriptTurn

MOST_WORDS = 12


def monologues(
    intents: Sequence[Intent], lines: Iterable[str], turns: int, licence: str, seed: int
) -> Iterator[Script]:
    """Every ask that is trained on and every line that all engines can read, shuffled, `turns` to a script.

    `licence` is that of the lines. Held-out asks are nowhere among them, nor lines that say the same.
    """
    held_out = {_letters(ask) for intent in intents for ask in intent.held_out_asks}
    said: dict[str, ScriptTurn] = {}
    for intent in intents:
        for ask in intent.asks:
            said.setdefault(_letters(ask), ScriptTurn(role="user", text=ask, intent=intent.name))
    asks = len(said)
    for line in lines:
        if is_readable(line) and _letters(line) not in held_out:
            said.setdefault(_letters(line), ScriptTurn(role="user", text=line))
    everything = list(said.values())
    named = {intent.licence for intent in intents} | ({licence} if len(said) > asks else set())
    licences = " AND ".join(sorted(named))
    order = generator("monologues", seed).permutation(len(everything)).tolist()
    for first in range(0, len(order), turns):
        some = tuple(everything[at] for at in order[first : first + turns])
        yield Script(id=f"monologue-{first // turns:05d}", turns=some, licence=licences)


def _letters(line: str) -> str:
    """What is heard of a line: punctuation makes no other one of it."""
    return "".join(c for c in line if unicodedata.category(c)[0] in "LMN")


def is_readable(line: str) -> bool:
    """Some engines refuse digits and letters of other scripts; what is long is for reading, not saying."""
    telugu = all(
        "TELUGU LETTER" in name or "TELUGU VOWEL" in name or "TELUGU SIGN" in name
        for name in (unicodedata.name(c, "") for c in line if unicodedata.category(c)[0] in "LMN")
    )
    words = sum(any(unicodedata.category(c)[0] == "L" for c in word) for word in line.split())
    return telugu and 0 < words <= MOST_WORDS
