"""Who speaks which dialogue in which split: the plan of a corpus, made before anything is spoken.

A dialogue's split is a hash of its id. Each split has user voices of its own: the cast's held-out ones
belong to the test split, some of the others to dev, the rest to train. A user never has a reply's voice.
A script that asks what an intent holds out is in the test split too.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from pydantic import Field

from paluku.config import Config
from paluku.corpus.dialogues.conversations import Conversation, ConversationsConfig, list_conversations
from paluku.corpus.dialogues.exchanges import Chain, Chaining, asks_of, chain_of_intents, chain_of_script
from paluku.corpus.dialogues.rendering import Dialogue, Line, Rendering
from paluku.corpus.shards import SPLITS, Split
from paluku.corpus.splits import SplitShares, fraction, generator, split_of
from paluku.corpus.storage import AnyPlace
from paluku.corpus.turns import Intent, Script, read_intents, read_scripts
from paluku.errors import ConfigError, CorpusError
from paluku.voices import VoiceName

BABBLERS = 4
SHIPPED = "te_turns"  # the source of dialogues that are made of the shipped intents

FILES_PER_SHARD = 8  # of recorded conversations, of many minutes each

# These say where and how patiently dialogues are built, or name files whose content has a hash of its own.
NO_RECIPE = ("out", "overwrite", "max_reject_share", "cpus_per_task", "cast", "intents", "scripts")


Item = TypeVar("Item", Dialogue, Conversation)


class DialoguesConfig(Config):
    """Settings of `jobs/build_dialogues.py`."""

    out: AnyPlace  # a folder that every node reaches, or a URI
    cast: Path  # who speaks: a YAML file of `corpus.voices.cast.CastConfig`
    intents: tuple[Path, ...] | None = None  # TSV files or folders; none: those that are shipped
    scripts: Path | None = None  # a JSONL file of whole conversations, instead of intents
    dialogues: int = Field(ge=0)
    conversations: ConversationsConfig | None = None  # recorded ones, besides
    chaining: Chaining = Chaining()
    rendering: Rendering = Rendering()
    shares: SplitShares = SplitShares()
    rows_per_shard: int = Field(default=64, ge=1)
    max_reject_share: float = Field(default=0.02, ge=0, le=1)
    cpus_per_task: float = Field(default=1.0, gt=0)
    overwrite: bool = False  # another corpus that stands at `out`
    seed: int = 0

    @property
    def recipe(self) -> dict[str, Any]:
        """What the dialogues depend on, besides the texts and the voices, as plain values."""
        recipe = self.model_dump(mode="json", exclude=set(NO_RECIPE))
        recipe["rendering"]["augmentation"].pop("noise_folder")
        for name in ("folder", "transcripts"):
            (recipe["conversations"] or {}).pop(name, None)
        return recipe

    def recipe_sha256(self) -> str:
        """Names the recipe."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()


class Voices(Protocol):
    """Who there is to speak; `corpus.voices.cast.Cast` fits."""

    @property
    def reply_voices(self) -> tuple[VoiceName, ...]:
        """Those that answer."""
        ...

    @property
    def user_voices(self) -> tuple[str, ...]:
        """Those that ask."""
        ...

    @property
    def held_out_user_voices(self) -> tuple[str, ...]:
        """Those that ask in the test split alone."""
        ...


class ShardPlan(Config):
    """One shard to be made."""

    split: Split
    number: int
    dialogues: tuple[Dialogue, ...] = ()
    conversations: tuple[Conversation, ...] = ()


class Texts(Config):
    """What is said: intents, or scripts."""

    intents: tuple[Intent, ...] = ()
    scripts: tuple[Script, ...] = ()
    held_out_asks: frozenset[str] = frozenset()  # a script with one of them is for testing
    source: str


def read_texts(config: DialoguesConfig) -> Texts:
    """The scripts that are named and what the intents hold out of training, else the intents.

    Raises:
        CorpusError: when a file is missing or a line in it does not fit.
    """
    if config.scripts is not None:
        scripts, intents = read_scripts(config.scripts), read_intents(config.intents)
        held_out = frozenset(ask for intent in intents for ask in intent.held_out_asks)
        return Texts(scripts=scripts, held_out_asks=held_out, source=config.scripts.stem)
    source = SHIPPED if config.intents is None else "+".join(path.stem for path in config.intents)
    return Texts(intents=read_intents(config.intents), source=source)


def plan_shards(config: DialoguesConfig, texts: Texts, voices: Voices) -> list[ShardPlan]:
    """All dialogues, split by split, in shards of `rows_per_shard`; then recorded conversations.

    Raises:
        ConfigError: when a user has a reply's voice, or a split has no voice.
        CorpusError: when there is nothing to say, a script does not alternate, or recordings are missing.
    """
    spoken = _by_split(plan_dialogues(config, texts, voices))
    settings = config.conversations
    recorded = _by_split(list_conversations(settings, config.shares, config.seed) if settings else ())
    plans = []
    for split in SPLITS:
        parts = [((), part) for part in _parts(recorded[split], FILES_PER_SHARD)]
        parts = [(part, ()) for part in _parts(spoken[split], config.rows_per_shard)] + parts
        plans += [
            ShardPlan(split=split, number=number, dialogues=dialogues, conversations=conversations)
            for number, (dialogues, conversations) in enumerate(parts)
        ]
    if not plans:
        raise CorpusError("there is nothing to build; set dialogues=COUNT or conversations.folder=FOLDER")
    return plans


def _by_split(items: Iterable[Item]) -> dict[Split, list[Item]]:
    by_split: dict[Split, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        by_split[item.split].append(item)
    return by_split


def _parts(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def plan_dialogues(config: DialoguesConfig, texts: Texts, voices: Voices) -> list[Dialogue]:
    """`config.dialogues` of them: every intent (or script) once, then each with its next reply voice.

    A larger plan begins with the smaller one.

    Raises:
        ConfigError: when a user has a reply's voice, or a split has no voice.
        CorpusError: when there is nothing to say, or a script does not alternate.
    """
    if not texts.intents and not texts.scripts:
        raise CorpusError("there is nothing to say; give intents or scripts")
    users = user_voices_by_split(voices, config.shares, config.seed)
    background = {split: _lines(texts, split, config) for split in SPLITS}
    planned = []
    for number in range(config.dialogues):
        name = f"dialogue/{number:06d}"
        chain, split = _chain(name, number, texts, config)
        random = generator(f"voices/{name}", config.seed)
        lap, place = divmod(number, len(texts.intents or texts.scripts))
        if not users[split]:  # test, where it has no share: a held-out question goes there all the same
            raise ConfigError(
                f"{name} asks a held-out question, and {split} has no user voice; hold one out in the cast"
            )
        user = users[split][int(random.integers(len(users[split])))]
        planned.append(
            Dialogue(
                **chain.model_dump(),
                split=split,
                user_voice=user,
                reply_voice=voices.reply_voices[(place + lap) % len(voices.reply_voices)],
                babblers=_babblers(user, users[split], background[split], random),
                source=texts.source,
            )
        )
    return planned


def user_voices_by_split(voices: Voices, shares: SplitShares, seed: int) -> dict[Split, tuple[str, ...]]:
    """The users of each split; no voice is in two, and the held-out ones are in test.

    Raises:
        ConfigError: when a user has a reply's voice, or a split with a share has no voice.
    """
    if both := sorted({*voices.user_voices, *voices.held_out_user_voices} & {*voices.reply_voices}):
        raise ConfigError(
            f"{', '.join(both)} would be both reply and user; give the users voices of their own"
        )
    held_out = tuple(sorted(voices.held_out_user_voices))
    free = sorted(set(voices.user_voices) - set(held_out), key=lambda voice: fraction(f"user/{voice}", seed))
    dev = _taken(free, shares.dev)
    test = () if held_out else _taken(free[len(dev) :], shares.test)
    train = tuple(free[len(dev) + len(test) :])
    users: dict[Split, tuple[str, ...]] = {"train": train, "dev": dev, "test": held_out or test}
    needed: dict[Split, bool] = {"train": True, "dev": shares.dev > 0, "test": shares.test > 0}
    for split, is_needed in needed.items():
        if is_needed and not users[split]:
            raise ConfigError(f"no user voice is left for {split}; add user voices to the cast")
    return users


def _taken(voices: Sequence[str], share: float) -> tuple[str, ...]:
    return tuple(voices[: max(round(share * len(voices)), 1)]) if share else ()


def _chain(name: str, number: int, texts: Texts, config: DialoguesConfig) -> tuple[Chain, Split]:
    """A script keeps its split whenever it is spoken again; an intent is in all of them."""
    if texts.scripts:
        script = texts.scripts[number % len(texts.scripts)]
        return chain_of_script(name, script), _split_of_script(script, texts, config)
    split = split_of(name, config.shares, config.seed)
    return chain_of_intents(name, number, texts.intents, split, config.chaining, config.seed), split


def _split_of_script(script: Script, texts: Texts, config: DialoguesConfig) -> Split:
    if any(turn.role == "user" and turn.text in texts.held_out_asks for turn in script.turns):
        return "test"
    return split_of(f"script/{script.id}", config.shares, config.seed)


def _lines(texts: Texts, split: Split, config: DialoguesConfig) -> list[str]:
    """What people in the background of a split say: nothing that another split alone may hold."""
    spoken = [s for s in texts.scripts if _split_of_script(s, texts, config) == split]
    asked = [ask for intent in texts.intents for ask in asks_of(intent, split)]
    return asked + [turn.text for script in spoken for turn in script.turns]


def _babblers(
    user: str, voices: Iterable[str], lines: Sequence[str], random: np.random.Generator
) -> tuple[Line, ...]:
    """Others of the user's split, for none may be heard in two; he himself where he is the only one."""
    others = [voice for voice in voices if voice != user] or [user]
    return tuple(
        Line(text=lines[int(random.integers(len(lines)))], voice=others[int(random.integers(len(others)))])
        for _ in range(BABBLERS)
    )
