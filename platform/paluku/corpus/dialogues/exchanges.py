"""Written conversations: chains of exchanges drawn from intents, or taken from scripts.

A chain drawn from intents opens with a greeting and ends with thanks or a farewell, where there are such
and the chain is long enough; what lies between is of one topic. What is asked in a test dialogue is a
held-out paraphrase, and held-out paraphrases are asked nowhere else.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import Field, model_validator

from paluku.config import Config
from paluku.corpus.shards import Split
from paluku.corpus.splits import generator
from paluku.corpus.turns import Intent, Script
from paluku.errors import CorpusError
from paluku.voices import STYLES, StyleName


class Chaining(Config):
    """How intents become conversations."""

    lengths: tuple[float, ...] = Field(
        default=(0.25, 0.3, 0.25, 0.2), min_length=1
    )  # shares of 1, 2, ... exchanges
    opening_topics: tuple[str, ...] = ("greetings",)
    closing_topics: tuple[str, ...] = ("thanks", "farewell")
    opened_share: float = Field(default=0.6, ge=0, le=1)  # of the chains of two or more
    closed_share: float = Field(default=0.5, ge=0, le=1)
    own_style_share: float = Field(default=0.6, ge=0, le=1)  # the style of the intent's reply; else any

    @model_validator(mode="after")
    def _shares(self) -> "Chaining":
        if min(self.lengths) < 0 or not sum(self.lengths):
            raise ValueError(f"lengths {self.lengths} must be shares, not all of them 0")
        return self


class Exchange(Config):
    """A question and its answer; without one the user just goes on."""

    ask: str
    reply: str | None
    intent: str | None = None


class Chain(Config):
    """A conversation in writing, and the style of its replies."""

    id: str
    exchanges: tuple[Exchange, ...] = Field(min_length=1)
    style: StyleName
    licence: str


def chain_of_intents(
    name: str, number: int, intents: Sequence[Intent], split: Split, chaining: Chaining, seed: int
) -> Chain:
    """Conversation `number`: its main intent is the next in turn, so that every intent is spoken.

    Raises:
        CorpusError: when there are no intents.
    """
    if not intents:
        raise CorpusError("there are no intents to make dialogues of; give turns=FILE.tsv")
    random = generator(f"chain/{name}", seed)
    main = intents[number % len(intents)]
    members = _members(main, intents, chaining, random)
    style = _style(main, chaining, random)
    return Chain(
        id=name,
        exchanges=tuple(_exchange(intent, split, style, random) for intent in members),
        style=style,
        licence=_together(intent.licence for intent in members),
    )


def chain_of_script(name: str, script: Script) -> Chain:
    """The script's turns in pairs, or the user's alone; the style is that of its first reply.

    Raises:
        CorpusError: when user and agent do not take turns, the user first.
    """
    roles = [turn.role for turn in script.turns]
    if set(roles) == {"user"}:
        alone = tuple(Exchange(ask=turn.text, reply=None, intent=turn.intent) for turn in script.turns)
        return Chain(id=name, exchanges=alone, style="neutral", licence=script.licence)
    asks, replies = script.turns[::2], script.turns[1::2]
    if len(asks) != len(replies) or roles != ["user", "agent"] * len(asks):
        raise CorpusError(
            f"script {script.id} has turns of {', '.join(roles)}; they must alternate, the user "
            "first, or be the user's alone"
        )
    pairs = zip(asks, replies, strict=True)
    exchanges = tuple(Exchange(ask=ask.text, reply=reply.text, intent=ask.intent) for ask, reply in pairs)
    return Chain(id=name, exchanges=exchanges, style=replies[0].style, licence=script.licence)


def asks_of(intent: Intent, split: Split) -> tuple[str, ...]:
    """How an intent is asked in a split."""
    return intent.held_out_asks or intent.asks if split == "test" else intent.asks


def _members(
    main: Intent, intents: Sequence[Intent], chaining: Chaining, random: np.random.Generator
) -> list[Intent]:
    """An opening, intents of one topic, a closing; `main` is where its topic belongs. Nothing comes twice."""
    weights = np.asarray(chaining.lengths) / sum(chaining.lengths)
    length = int(random.choice(len(weights), p=weights)) + 1
    if length == 1:
        return [main]
    opening = [intent for intent in intents if intent.topic in chaining.opening_topics]
    closing = [intent for intent in intents if intent.topic in chaining.closing_topics]
    middle = [intent for intent in intents if intent not in opening and intent not in closing]
    first = [main] if main in opening else _perhaps_one(opening, chaining.opened_share, random)
    last = [main] if main in closing else _perhaps_one(closing, chaining.closed_share, random)
    if length - len(first) - len(last) < 1 and main in middle:
        last = []  # of two exchanges one is the main one
    within = main if main in middle else _perhaps_one(middle, 1.0, random)[0] if middle else None
    return [*first, *_of_topic(within, middle, length - len(first) - len(last), random), *last]


def _perhaps_one(pool: Sequence[Intent], share: float, random: np.random.Generator) -> list[Intent]:
    if not pool or random.random() >= share:
        return []
    return [pool[int(random.integers(len(pool)))]]


def _of_topic(
    first: Intent | None, pool: Sequence[Intent], count: int, random: np.random.Generator
) -> list[Intent]:
    """`first` and others of its topic, `count` at most."""
    if first is None or count < 1:
        return []
    others = [intent for intent in pool if intent.topic == first.topic and intent is not first]
    return [first, *(others[int(place)] for place in random.permutation(len(others))[: count - 1])]


def _style(main: Intent, chaining: Chaining, random: np.random.Generator) -> StyleName:
    own = main.replies[int(random.integers(len(main.replies)))].style
    drawn = STYLES[int(random.integers(len(STYLES)))]
    return own if random.random() < chaining.own_style_share else drawn


def _exchange(intent: Intent, split: Split, style: StyleName, random: np.random.Generator) -> Exchange:
    """A way to ask it, and a reply: one written for the style, where there is one."""
    asks = asks_of(intent, split)
    fitting = [reply for reply in intent.replies if reply.style == style] or intent.replies
    ask, reply = asks[int(random.integers(len(asks)))], fitting[int(random.integers(len(fitting)))]
    return Exchange(ask=ask, reply=reply.text, intent=intent.name)


def _together(licences: Iterable[str]) -> str:
    """The SPDX expression of a work that holds all of these."""
    return " AND ".join(sorted(set(licences)))
