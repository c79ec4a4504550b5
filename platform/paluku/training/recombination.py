"""Dialogues that nobody held, made of those that were: asked by others, and gone on with as others do.

A model that meets the same few hundred dialogues again and again learns them by heart: what it answers then
hangs on who asked, in which words, and after what, and on nothing that a stranger's words have too. Here
each of a user's turns may be exchanged for another one with the same intent, and the dialogue may go on from
it as another one in the same voice and style does. Both hold frame by frame: our side keeps what it says
before and after the turn, and is silent for as long as the new turn needs.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from paluku.corpus.shards import ShardSet
from paluku.errors import CorpusError
from paluku.s2s.losses import says_something
from paluku.tokens.packing import column_of
from paluku.tokens.sources import check_alike
from paluku.tokens.text import PAD

CODES, TEXTS = ("agent_codes", "user_codes"), ("text", "user_text")


class Asked(NamedTuple):
    """What is heard in a user's turn, and its transcript, of which some may come after it."""

    codes: Int[np.ndarray, "K T"]
    text: Int[np.ndarray, "T+L"]


class Turn(NamedTuple):
    """A user's turn, frames `[start, end)`, in which we are silent in `[quiet, speaks)`.

    The user's next one begins at `until`, or the dialogue ends there.
    """

    intent: str
    start: int
    quiet: int
    speaks: int
    end: int
    until: int


class Frames(NamedTuple):
    """Of both sides, ours first."""

    codes: Int[np.ndarray, "2 K T"]
    texts: Int[np.ndarray, "2 T"]

    @property
    def length(self) -> int:
        """How many."""
        return self.texts.shape[1]

    def at(self, frames: slice | Int[np.ndarray, "N"]) -> "Frames":
        """Those of these numbers."""
        return Frames(self.codes[..., frames], self.texts[:, frames])


class Dialogue:
    """One row of tokens, and the turns whose intent is known."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        _check(row)
        codes = [np.asarray(row[name], np.int16).reshape(-1, row["num_frames"]) for name in CODES]
        self.frames = Frames(np.stack(codes), np.stack([np.asarray(row[name], np.int16) for name in TEXTS]))
        text = torch.from_numpy(self.frames.texts[:1].astype(np.int64))
        self._speaks = says_something(text, torch.zeros_like(text))[0].numpy()
        self.turns: list[Turn] = []
        spoken, last = row["user_turns"], 0
        untils = [*(turn["start"] for turn in spoken[1:]), row["num_frames"]]
        for turn, until in zip(spoken, untils, strict=True):
            # Turns that overlap are heard as they were.
            if turn["intent"] and last <= turn["start"] < turn["end"] <= until:
                self.turns.append(self._turn(turn["intent"], turn["start"], turn["end"], until))
            last = max(last, turn["end"])

    def _turn(self, intent: str, start: int, end: int, until: int) -> Turn:
        quiet = start + np.flatnonzero(~self._speaks[start:end])
        # Silent, then not: what is said in the midst of a turn belongs to its frames.
        is_silent_once = len(quiet) > 0 and quiet[-1] - quiet[0] == len(quiet) - 1
        first, last = (int(quiet[0]), int(quiet[-1]) + 1) if is_silent_once else (end, end)
        return Turn(intent, start, first, last, end, until)

    @property
    def places(self) -> list[Turn]:
        """Turns at which something else may be said: those in which we are silent."""
        return [turn for turn in self.turns if turn.quiet < turn.speaks]

    def asked(self, turn: Turn) -> Asked:
        """A copy: it does not hold the dialogue."""
        codes, text = self.frames.codes[1], self.frames.texts[1]
        told = turn.start + np.flatnonzero(text[turn.start : turn.until] != PAD)
        last = max(turn.end, int(told[-1]) + 1 if len(told) else 0)
        return Asked(codes[:, turn.start : turn.end].copy(), text[turn.start : last].copy())

    def transcribe_(self, turn: Turn, asked: Asked) -> None:
        """What of a transcript comes after the turn, instead of what came there."""
        late = asked.text[asked.codes.shape[1] :]
        self.frames.texts[1, turn.end : turn.until] = PAD
        self.frames.texts[1, turn.end : turn.end + len(late)] = late


class Recombination:
    """What stands for a row of tokens in training; which, is drawn by whoever asks.

    `other_asks` is the share of turns that are exchanged, for those of `tokens` and of `asks_from`;
    `other_endings` the probability, at each turn, that the dialogue goes on as another one does. Users' turns
    are held in memory, dialogues are not.

    Raises:
        CorpusError: when no turn has an intent, or the tokens cannot be read.
        CheckpointError: when the folders were made with different codecs or tokenizers.
    """

    def __init__(
        self, tokens: ShardSet, asks_from: Sequence[ShardSet], other_asks: float, other_endings: float
    ) -> None:
        self.tokens, self.other_asks, self.other_endings = tokens, other_asks, other_endings
        check_alike((tokens, *asks_from), "asks_from: ")
        self._asks = _asks((tokens, *asks_from))
        # Who may go on for whom.
        voices, styles = (column_of(tokens, name).to_pylist() for name in ("voice", "style"))
        self._manners = list(zip(voices, styles, strict=True))
        self._alike: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, manner in enumerate(self._manners):
            self._alike[manner].append(number)

    def row(self, number: int, random: np.random.Generator) -> dict[str, Any]:
        """Row `number`, recombined: no longer than it is, of the same voice and style."""
        [row] = self.tokens.rows([number])
        here, at = Dialogue(row), 0
        parts, missing = [], row["num_frames"]
        while missing > 0 and (turn := next((t for t in here.places if t.start >= at), None)):
            there, other = here, turn
            if random.random() < self.other_endings:
                wanted = missing - (turn.start - at)
                there, other = self._ending(number, wanted, random) or (here, turn)
            asked = there.asked(other)
            said = _said(here, turn, there, other, asked)
            if random.random() < self.other_asks:
                ways = self._asks[other.intent]
                instead = ways[random.integers(len(ways))]
                if (again := _said(here, turn, there, other, instead)) is not None:
                    asked, said = instead, again
            if said is None:  # as it was
                said, there, other = here.frames.at(slice(turn.start, turn.end)), here, turn
            else:
                there.transcribe_(other, asked)
            parts += [here.frames.at(slice(at, turn.start)), said]
            missing -= parts[-2].length + said.length
            here, at = there, other.end
        whole = _joined([*parts, here.frames.at(slice(at, None))]).at(slice(row["num_frames"]))
        streams = zip((*CODES, *TEXTS), (*whole.codes, *whole.texts), strict=True)
        del row["user_turns"]  # they were
        return row | {name: stream.flatten() for name, stream in streams} | {"num_frames": whole.length}

    def _ending(self, number: int, frames: int, random: np.random.Generator) -> tuple[Dialogue, Turn] | None:
        """A dialogue, and the turn from which on it is heard: for so many frames, where it lasts so long."""
        alike = self._alike[self._manners[number]]
        [row] = self.tokens.rows([alike[random.integers(len(alike))]])
        dialogue = Dialogue(row)
        places = dialogue.places
        lasting = [turn for turn in places if row["num_frames"] - turn.start >= frames] or places
        return (dialogue, lasting[random.integers(len(lasting))]) if lasting else None


def _check(row: Mapping[str, Any]) -> None:
    frames, streams = row["num_frames"], (*CODES, *TEXTS)
    lengths = {name: None if row[name] is None else len(row[name]) for name in (*streams, "user_turns")}
    per_frame = [(lengths[name] or 0) / frames for name in streams]
    fits = per_frame[0] == per_frame[1] == round(per_frame[0]) and per_frame[2:] == [1, 1]
    if not fits or lengths["user_turns"] is None:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise CorpusError(
            f"tokens of {row['id']} do not fit their {frames} frames ({told}); extract them again "
            "(jobs/extract_tokens.py)"
        )


def _asks(sets: Sequence[ShardSet]) -> dict[str, list[Asked]]:
    """All turns of all rows, by intent."""
    found: dict[str, list[Asked]] = defaultdict(list)
    for tokens in sets:
        for row in tokens.rows(range(len(tokens))):
            dialogue = Dialogue(row)
            for turn in dialogue.turns:
                found[turn.intent].append(dialogue.asked(turn))
    if not found:
        raise CorpusError(
            f"no user's turn in {', '.join(str(each.folder) for each in sets)} has an intent: set other_asks "
            "and other_endings to 0, or extract the tokens of written dialogues (jobs/extract_tokens.py)"
        )
    return found


def _said(here: Dialogue, turn: Turn, there: Dialogue, other: Turn, asked: Asked) -> Frames | None:
    """What is `asked`, after what comes before `turn` and before what comes after the `other` one.

    None where it is shorter than what we say meanwhile, or there is no room for its transcript.
    """
    before = here.frames.at(slice(turn.start, turn.quiet))
    after = there.frames.at(slice(other.speaks, other.end))
    frames = asked.codes.shape[1]
    silent = frames - before.length - after.length
    if silent < 1 or len(asked.text) - frames > other.until - other.end:
        return None
    again = turn.quiet + np.arange(silent) % (turn.speaks - turn.quiet)
    codes, texts = _joined([before, here.frames.at(again), after])
    return Frames(np.stack((codes[0], asked.codes)), np.stack((texts[0], asked.text[:frames])))


def _joined(parts: Sequence[Frames]) -> Frames:
    return Frames(
        np.concatenate([part.codes for part in parts], axis=-1),
        np.concatenate([part.texts for part in parts], axis=-1),
    )
