"""Rows of tokens to the tensors of a training batch: cropped, and packed one after the other into rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from paluku.errors import CorpusError
from paluku.shapes import Codes
from paluku.tokens.text import PAD
from paluku.voices import STYLES, VOICES

NO_DOCUMENT = -1


class TokenBatch(NamedTuple):
    """`B` rows of `T` frames, each with one or more of the batch's `N` documents, one after the other.

    A frame of no document (the end of a row) has code 0, `PAD`, and document -1.
    """

    agent_codes: Codes
    user_codes: Codes
    text: Int[Tensor, "B T"]  # what we say
    user_text: Int[Tensor, "B T"]  # what the user said
    document: Int[Tensor, "B T"]  # which of the N the frame belongs to
    voice: Int[Tensor, "N"]
    style: Int[Tensor, "N"]

    def to(self, device: torch.device) -> "TokenBatch":
        """The same on a device."""
        return TokenBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


class Sizes(NamedTuple):
    """What a model can take: its tables would be read out of bounds, or at another stream's rows."""

    num_codebooks: int
    codebook_size: int
    text_vocab: int


class Crop(NamedTuple):
    """Frames `[start, start + frames)` of a row of tokens: one document."""

    row: Mapping[str, Any]
    start: int
    frames: int


def crop(row: Mapping[str, Any], limit: int, start_share: float, random: np.random.Generator) -> Crop:
    """The whole row, or `limit` frames of a longer one.

    Those begin at frame 0 with probability `start_share`, else anywhere: a session is heard from its
    beginning, and as it goes on.
    """
    spare = row["num_frames"] - limit
    if spare <= 0:
        return Crop(row, 0, row["num_frames"])
    return Crop(row, 0 if random.random() < start_share else int(random.integers(spare + 1)), limit)


def token_batch(rows: Sequence[Sequence[Crop]], frames: int, sizes: Sizes) -> TokenBatch:
    """Rows of `frames` frames, each the given documents one after the other, then nothing.

    Raises:
        CorpusError: when a document's tokens do not fit the model's sizes, or its voice or style is unknown.
    """
    B, K = len(rows), sizes.num_codebooks
    codes = np.zeros((2, B, K, frames), np.int64)
    text = np.full((2, B, frames), PAD, np.int64)
    document = np.full((B, frames), NO_DOCUMENT, np.int64)
    documents: list[Mapping[str, Any]] = []
    for b, crops in enumerate(rows):
        assert sum(c.frames for c in crops) <= frames, f"row {b} has no room for {len(crops)} documents"
        first = 0
        for row, start, length in crops:
            here, there = slice(first, first + length), slice(start, start + length)
            for channel, name in enumerate(("agent_codes", "user_codes")):
                codes[channel, b, :, here] = _codes(row, name, sizes)[:, there]
            for channel, name in enumerate(("text", "user_text")):
                text[channel, b, here] = _text(row, name, sizes)[there]
            document[b, here] = len(documents)
            documents.append(row)
            first += length
    voices, styles = (
        torch.tensor([_index(row, what, names) for row in documents], dtype=torch.int64)
        for what, names in (("voice", VOICES), ("style", STYLES))
    )
    agent, user, ours, theirs, places = map(torch.from_numpy, (*codes, *text, document))
    return TokenBatch(agent, user, ours, theirs, places, voices, styles)


def _codes(row: Mapping[str, Any], name: str, sizes: Sizes) -> np.ndarray:
    """`[K, T]` of one channel."""
    codes, T = np.asarray(row[name]), row["num_frames"]
    if len(codes) != sizes.num_codebooks * T:
        raise CorpusError(
            f"tokens of {row['id']}: {name} has {len(codes)} codes for {T} frames, the model has "
            f"{sizes.num_codebooks} codebooks; set model.num_codebooks to the codec's"
        )
    return _within(row, name, codes, sizes.codebook_size).reshape(sizes.num_codebooks, T)


def _text(row: Mapping[str, Any], name: str, sizes: Sizes) -> np.ndarray:
    """`[T]` of one channel."""
    if row.get(name) is None:
        raise CorpusError(
            f"tokens of {row['id']} have no {name}; extract them again (jobs/extract_tokens.py)"
        )
    return _within(row, name, np.asarray(row[name]), sizes.text_vocab)


def _within(row: Mapping[str, Any], name: str, tokens: np.ndarray, size: int) -> np.ndarray:
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < size):
        raise CorpusError(
            f"tokens of {row['id']}: {name} goes from {tokens.min()} to {tokens.max()}, the model takes "
            f"0 to {size - 1}; set the model's sizes to those of the codec and tokenizer"
        )
    return tokens


def _index(row: Mapping[str, Any], what: str, names: Sequence[str]) -> int:
    if row[what] not in names:
        raise CorpusError(
            f"tokens of {row['id']}: {what} {row[what]!r} is none of {', '.join(names)}; extract them again"
        )
    return names.index(row[what])
