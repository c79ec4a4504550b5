"""What a worker reads in each step of an S2S run: a pure function of the seed and the step.

Rows are numbered over the whole run. What is drawn at random for one (crops, dropped conditions, where codes
are predicted) depends on the seed and that number alone. So a resumed run reads what it would have read, and
two workers, or two passes before an update, read what one of twice the batch does.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from paluku.corpus.shards import ShardSet
from paluku.tokens.batches import Crop, TokenBatch, crop, token_batch
from paluku.tokens.packing import frames_of, pack
from paluku.training.recombination import Recombination
from paluku.training.s2s_config import S2STrainingConfig
from paluku.training.sampler import batch_indices
from paluku.training.world import World

DRAWS = 1  # sets these draws apart from those of the rows' order
MEAN_GAP_FRAMES = 5  # of those of which nothing is heard, or seen


class Pass(NamedTuple):
    """What goes through the model at once, and what was drawn for it."""

    tokens: TokenBatch
    has_speaker: Bool[Tensor, "N"]
    has_style: Bool[Tensor, "N"]
    depth_at: Int[Tensor, "M"] | None  # positions whose codes are predicted; None: all
    sees_own: Bool[Tensor, "B T"] | None = None  # as `S2SModel.forward` takes it

    def to(self, device: torch.device) -> "Pass":
        """The same on a device."""
        if device.type == "cpu":
            return self
        there = [None if part is None else part.to(device, non_blocking=True) for part in self[3:]]
        return Pass(self.tokens.to(device), self.has_speaker.to(device), self.has_style.to(device), *there)


class _Drawn(NamedTuple):
    """One row."""

    crops: list[Crop]
    keeps: np.ndarray  # [documents, 2]: speaker, style
    depth_at: np.ndarray  # frames
    heard: np.ndarray  # [frames]: how many of the user's codebooks are
    sees_own: np.ndarray  # [frames]


class Feed:
    """One worker's share of a split. Raises as `ShardSet` and `token_batch` do."""

    def __init__(self, config: S2STrainingConfig, tokens: ShardSet, world: World) -> None:
        self.config, self.tokens, self.world = config, tokens, world
        lengths = np.minimum(frames_of(tokens), config.max_frames)
        # Who shares a row is settled once: documents do not see each other. The order of rows is new in
        # every epoch.
        self._rows = pack(lengths, config.width, config.seed)
        self.fill = float(lengths.sum()) / (len(self._rows) * config.width)
        self._recombined = _recombination(config, tokens)

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self._rows)

    def step(self, step: int) -> list[Pass]:
        """The passes of a step (0-based) of training."""
        config, world = self.config, self.world
        share = config.batch * config.accumulate
        numbers = batch_indices(len(self._rows), config.seed, step, share, world.rank, world.size)
        first = (step * world.size + world.rank) * share
        drawn = [self._draw(row, first + place) for place, row in enumerate(numbers)]
        return [self._pass(drawn[at : at + config.batch]) for at in range(0, share, config.batch)]

    def beginnings(self) -> list[tuple[Pass, bool]]:
        """Up to `evaluate_batches` passes, the same every time; with each, whether it counts.

        From frame 0, with every condition, codes predicted everywhere. Every worker has as many passes as
        the others: where its rows do not suffice, one that does not count.
        """
        config, world = self.config, self.world
        rows = self._rows[: config.evaluate_batches * config.batch * world.size]
        mine, most = rows[world.rank :: world.size], rows[:: world.size]
        passes = []
        for at in range(0, len(most), config.batch):
            chosen = mine[at : at + config.batch]
            passes.append((self._from_start(chosen or rows[:1]), bool(chosen)))
        return passes

    def _draw(self, row: int, position: int) -> _Drawn:
        """Row number `position` of the run."""
        config = self.config
        random = np.random.default_rng((config.seed, position, DRAWS))
        documents = self._documents(self._rows[row], random)
        crops = [crop(document, config.max_frames, config.start_share, random) for document in documents]
        keeps = random.random((len(crops), 2)) >= (config.drop_speaker, config.drop_style)
        frames = sum(c.frames for c in crops)
        asked = max(1, round(config.depth_share * frames))
        depth_at = np.sort(random.choice(frames, asked, replace=False))
        lengths = [c.frames for c in crops]
        heard = heard_codebooks(config, lengths, random)
        return _Drawn(crops, keeps, depth_at, heard, ~in_gaps(config.hide_own, lengths, random))

    def _documents(self, numbers: Sequence[int], random: np.random.Generator) -> list[dict[str, Any]]:
        if self._recombined is None:
            return self.tokens.rows(numbers)
        return [self._recombined.row(number, random) for number in numbers]

    def _pass(self, rows: Sequence[_Drawn]) -> Pass:
        config = self.config
        tokens = token_batch([row.crops for row in rows], config.width, config.sizes)
        if config.drop_codebooks or config.hide_frames:
            for codes, row in zip(tokens.user_codes, rows, strict=True):
                unheard = torch.arange(len(codes))[:, None] >= torch.from_numpy(row.heard)
                codes[:, : len(row.heard)].masked_fill_(unheard, config.model.pad_code)
        sees_own = torch.ones_like(tokens.text, dtype=torch.bool) if config.hide_own else None
        if sees_own is not None:
            for sees, row in zip(sees_own, rows, strict=True):
                sees[: len(row.sees_own)] = torch.from_numpy(row.sees_own)
        keeps = torch.from_numpy(np.concatenate([row.keeps for row in rows]))
        places = np.concatenate([b * config.width + row.depth_at for b, row in enumerate(rows)])
        depth_at = None if config.depth_share == 1 else torch.from_numpy(places)
        return Pass(tokens, keeps[:, 0], keeps[:, 1], depth_at, sees_own)

    def _from_start(self, rows: Sequence[Sequence[int]]) -> Pass:
        config = self.config
        crops = [
            [Crop(row, 0, min(row["num_frames"], config.max_frames)) for row in self.tokens.rows(numbers)]
            for numbers in rows
        ]
        tokens = token_batch(crops, config.width, config.sizes)
        everyone = torch.ones_like(tokens.voice, dtype=torch.bool)
        return Pass(tokens, everyone, everyone, None)


def _recombination(config: S2STrainingConfig, tokens: ShardSet) -> Recombination | None:
    """None where dialogues stay as they were held, as those do by which a model is judged."""
    if tokens.split != "train" or not (config.other_asks or config.other_endings):
        return None
    more = [ShardSet(folder, "tokens", "train") for folder in config.asks_from]
    return Recombination(tokens, more, config.other_asks, config.other_endings)


def heard_codebooks(
    config: S2STrainingConfig, lengths: Sequence[int], random: np.random.Generator
) -> Int[np.ndarray, "T"]:
    """How many of the user's codebooks are heard in each frame of documents of these lengths."""
    K = config.model.num_codebooks
    whole = random.random(len(lengths)) >= config.drop_codebooks
    heard = np.repeat(np.where(whole, K, random.integers(1, K + 1, len(lengths))), lengths)
    return np.where(in_gaps(config.hide_frames, lengths, random), 0, heard)


def in_gaps(most: float, lengths: Sequence[int], random: np.random.Generator) -> Bool[np.ndarray, "T"]:
    """Which frames of documents of these lengths lie in gaps: of each another share, up to `most`."""
    shares = random.uniform(0, most, len(lengths))
    # So many begin, overlapping ones counted, that this share lies in one.
    begins = random.poisson(np.repeat(-np.log1p(-shares) / MEAN_GAP_FRAMES, lengths))
    ends = np.repeat(np.cumsum(lengths), lengths)
    gaps = np.zeros(len(begins), np.bool_)
    for start in np.repeat(np.arange(len(begins)), begins).tolist():
        gaps[start : min(start + int(random.integers(1, 2 * MEAN_GAP_FRAMES)), ends[start])] = True
    return gaps


Read = TypeVar("Read")


class Ahead(Generic[Read]):
    """Reads what comes next in a thread, while the present is worked on; the same as reading it then."""

    def __init__(self, read: Callable[[int], Read], last: int) -> None:
        self._read, self._last = read, last
        self._thread = ThreadPoolExecutor(1, "tokens")
        self._next: tuple[int, Future[Read]] | None = None

    def __call__(self, step: int) -> Read:
        """What `read(step)` gives, or raises."""
        was_foreseen = self._next is not None and self._next[0] == step
        here = self._next[1] if self._next and was_foreseen else self._thread.submit(self._read, step)
        self._next = (step + 1, self._thread.submit(self._read, step + 1)) if step < self._last else None
        return here.result()

    def __enter__(self) -> "Ahead[Read]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
