"""Rows of tokens to the tensors of a training batch: cropped or padded to one number of frames."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from paluku.errors import CorpusError
from paluku.shapes import Codes
from paluku.tokens.text import PAD
from paluku.voices import STYLES, VOICES


class TokenBatch(NamedTuple):
    """`B` dialogues of `T` frames. Past a dialogue's end: code 0, `PAD`, and not valid."""

    agent_codes: Codes
    user_codes: Codes
    text: Int[Tensor, "B T"]
    voice: Int[Tensor, "B"]
    style: Int[Tensor, "B"]
    valid: Bool[Tensor, "B T"]

    def to(self, device: torch.device) -> "TokenBatch":
        """The same on a device."""
        return TokenBatch(*(tensor.to(device) for tensor in self))


class Sizes(NamedTuple):
    """What a model can take: its tables would be read out of bounds, or at another stream's rows."""

    num_codebooks: int
    codebook_size: int
    text_vocab: int


def crop_starts(rows: Sequence[Mapping[str, Any]], frames: int, seed: int, first: int) -> list[int]:
    """Where each row's crop begins: a pure function of the seed and the row's position in the whole run.

    `first` is the position of the first row, counted over all steps and workers.
    """
    return [
        int(np.random.default_rng((seed, first + place)).integers(max(row["num_frames"] - frames, 0) + 1))
        for place, row in enumerate(rows)
    ]


def token_batch(
    rows: Sequence[Mapping[str, Any]], starts: Sequence[int], frames: int, sizes: Sizes
) -> TokenBatch:
    """Frames `[start, start + frames)` of each row, followed by padding where a row ends before.

    Raises:
        CorpusError: when a row's tokens do not fit the model's sizes, or its voice or style is unknown.
    """
    B, K = len(rows), sizes.num_codebooks
    agent, user = np.zeros((B, K, frames), np.int64), np.zeros((B, K, frames), np.int64)
    text, valid = np.full((B, frames), PAD, np.int64), np.zeros((B, frames), bool)
    for b, (row, start) in enumerate(zip(rows, starts, strict=True)):
        length = min(frames, row["num_frames"] - start)
        crop = slice(start, start + length)
        agent[b, :, :length] = _codes(row, "agent_codes", sizes)[:, crop]
        user[b, :, :length] = _codes(row, "user_codes", sizes)[:, crop]
        text[b, :length] = _within(row, "text", np.asarray(row["text"]), sizes.text_vocab)[crop]
        valid[b, :length] = True
    return TokenBatch(
        torch.from_numpy(agent),
        torch.from_numpy(user),
        torch.from_numpy(text),
        torch.tensor([_index(row, "voice", VOICES) for row in rows]),
        torch.tensor([_index(row, "style", STYLES) for row in rows]),
        torch.from_numpy(valid),
    )


def _codes(row: Mapping[str, Any], name: str, sizes: Sizes) -> np.ndarray:
    """`[K, T]` of one channel."""
    codes, T = np.asarray(row[name]), row["num_frames"]
    if len(codes) != sizes.num_codebooks * T:
        raise CorpusError(
            f"tokens of {row['id']}: {name} has {len(codes)} codes for {T} frames, the model has "
            f"{sizes.num_codebooks} codebooks; set model.num_codebooks to the codec's"
        )
    return _within(row, name, codes, sizes.codebook_size).reshape(sizes.num_codebooks, T)


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
