"""What hearing learns from: the user's turns in tokens, each with its sounds, its tokens, what it asks."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from paluku.corpus.shards import ShardSet
from paluku.errors import CorpusError
from paluku.log import logger
from paluku.s2s.config import S2SConfig
from paluku.shapes import Codes
from paluku.tokens.sounds import spelled
from paluku.tokens.text import TextTokenizer

log = logger("training")

MARGIN = 12  # frames of silence kept before and after a turn, where nothing else is said in them
ALIKE = 10.0  # frames: turns whose lengths differ by less share batches at random
UNKNOWN = -1  # an intent
# Speech slower and faster by so much, frames said twice or left out.
TEMPO = 0.12
MOST_GAPS, GAP_FRAMES = 2, 5


class Turn(NamedTuple):
    """Something that a user says."""

    codes: Int[np.ndarray, "K T"]
    text: str
    intent: str


class Lesson(NamedTuple):
    """A batch: turns of much the same length, each row followed by nothing; targets one after the other."""

    codes: Codes
    frames: Int[Tensor, "B"]
    sounds: Int[Tensor, "S"]
    sound_counts: Int[Tensor, "B"]
    tokens: Int[Tensor, "U"]
    token_counts: Int[Tensor, "B"]
    intent: Int[Tensor, "B"]  # UNKNOWN where it is not known


def turns_of(sets: Iterable[ShardSet], model: S2SConfig) -> list[Turn]:
    """The user's turns of a split that have text, in order.

    Raises:
        CorpusError: when there are none, or the tokens have fewer codebooks or larger ones than the model.
    """
    turns: list[Turn] = []
    for tokens in sets:
        for row in tokens.rows(range(len(tokens))):
            codes = np.asarray(row["user_codes"], np.int16).reshape(-1, row["num_frames"])
            if len(codes) < model.num_codebooks or codes.max(initial=0) >= model.codebook_size:
                raise CorpusError(
                    f"{tokens.folder}: {row['id']} has {len(codes)} codebooks and codes up to "
                    f"{codes.max(initial=0)}, the model hears {model.num_codebooks} of "
                    f"{model.codebook_size}; set the model's sizes to those of the codec"
                )
            turns += _cut(codes[: model.num_codebooks], row["user_turns"])
    if not turns:
        raise CorpusError("nothing that a user says has a text; extract tokens of dialogues with transcripts")
    return turns


def _cut(codes: Int[np.ndarray, "K T"], spoken: Sequence[dict]) -> list[Turn]:
    ends = [0, *np.maximum.accumulate([turn["end"] for turn in spoken], dtype=int).tolist()]
    starts = [*(turn["start"] for turn in spoken), codes.shape[1]]
    turns = []
    for number, turn in enumerate(spoken):
        first = max(turn["start"] - MARGIN, min(ends[number], turn["start"]))
        last = min(turn["end"] + MARGIN, max(starts[number + 1], turn["end"]))
        if spelled(turn["text"]) and turn["end"] > turn["start"]:
            turns.append(Turn(codes[:, first:last], turn["text"], turn["intent"]))
    return turns


class Lessons:
    """Batches of turns. Who shares one is settled once; their order is new in every epoch."""

    def __init__(
        self,
        turns: Sequence[Turn],
        alphabet: str,
        intents: Sequence[str],
        tokenizer: TextTokenizer,
        frames: int,
        pad_code: int,
        seed: int,
    ) -> None:
        """`frames` are those of a batch, padding counted; turns with more sounds than frames are left out.

        Raises `CorpusError` when all are. A sound that is not in the alphabet is one that nobody can tell.
        """
        self._sounds = {sound: number for number, sound in enumerate(alphabet, start=1)}
        self._unknown = 1 + len(alphabet)
        self._intents = {intent: number for number, intent in enumerate(intents)}
        self._tokenizer, self._pad_code, self._seed = tokenizer, pad_code, seed
        self._turns = [turn for turn in turns if len(spelled(turn.text)) <= turn.codes.shape[1]]
        if left_out := len(turns) - len(self._turns):
            log.warning("turns=%d left_out=%d have more sounds than frames", len(turns), left_out)
        if not self._turns:
            raise CorpusError(
                f"none of {len(turns)} turns has as many frames as sounds; look at the tokens' user_turns"
            )
        lengths = np.array([turn.codes.shape[1] for turn in self._turns])
        random = np.random.default_rng(seed)
        self._batches = _batches(
            lengths, np.argsort(lengths + random.uniform(0, ALIKE, len(lengths))), frames
        )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._batches)

    def step(self, step: int, drop_codebooks: float, hide_frames: float) -> Lesson:
        """The batch of a step (0-based) of training, heard worse than it was said."""
        epoch, place = divmod(step, len(self))
        random = np.random.default_rng((self._seed, step, 1))
        turns = [self._turns[number] for number in self._batches[self.order(epoch)[place]]]
        codes = [worsened(t.codes, random, drop_codebooks, hide_frames, self._pad_code) for t in turns]
        return self._lesson(codes, turns)

    def order(self, epoch: int) -> list[int]:
        """The numbers of the batches, as an epoch has them."""
        return np.random.default_rng((self._seed, epoch)).permutation(len(self)).tolist()

    def all(self) -> Iterable[Lesson]:
        """Every batch as it was said."""
        for batch in self._batches:
            turns = [self._turns[number] for number in batch]
            yield self._lesson([turn.codes for turn in turns], turns)

    def _lesson(self, codes: Sequence[np.ndarray], turns: Sequence[Turn]) -> Lesson:
        frames = torch.tensor([each.shape[1] for each in codes])
        rows = np.full((len(codes), len(codes[0]), int(frames.max())), self._pad_code, np.int64)
        for row, each in zip(rows, codes, strict=True):
            row[:, : each.shape[1]] = each
        sounds = [[self._sounds.get(s, self._unknown) for s in spelled(turn.text)] for turn in turns]
        tokens = [self._tokenizer.encode(f" {turn.text}") for turn in turns]
        intent = [self._intents.get(turn.intent, UNKNOWN) for turn in turns]
        return Lesson(
            torch.from_numpy(rows), frames, *_joined(sounds), *_joined(tokens), torch.tensor(intent)
        )


def _joined(lists: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    flat = torch.tensor([number for each in lists for number in each], dtype=torch.int64)
    return flat, torch.tensor([len(each) for each in lists])


def _batches(lengths: np.ndarray, order: np.ndarray, frames: int) -> list[list[int]]:
    batches: list[list[int]] = []
    longest = 0
    for number in order.tolist():
        longest = max(longest, int(lengths[number]))
        if not batches or longest * (len(batches[-1]) + 1) > frames:
            batches.append([])
            longest = int(lengths[number])
        batches[-1].append(number)
    return batches


def worsened(
    codes: Int[np.ndarray, "K T"],
    random: np.random.Generator,
    drop_codebooks: float,
    hide_frames: float,
    pad_code: int,
) -> Int[np.ndarray, "K T2"]:
    """Slower or faster, with gaps, now and then without its last codebooks: in a new array."""
    tempo = random.uniform(-TEMPO, TEMPO)
    times = np.ones(codes.shape[1], int)
    times[random.random(len(times)) < abs(tempo)] = 2 if tempo > 0 else 0
    heard = np.repeat(codes, times, axis=1) if times.any() else codes.copy()
    for _ in range(random.integers(0, MOST_GAPS + 1) if hide_frames else 0):
        first = random.integers(0, heard.shape[1])
        heard[:, first : first + random.integers(1, GAP_FRAMES + 1)] = pad_code
    heard[:, random.random(heard.shape[1]) < hide_frames] = pad_code
    if random.random() < drop_codebooks:
        heard[random.integers(1, len(heard) + 1) :] = pad_code
    return heard
