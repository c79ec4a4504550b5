"""One dialogue to one row of tokens: both channels through the codec, the reply's words by frame."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from paluku.audio import read
from paluku.codec.port import Codec
from paluku.errors import AudioError
from paluku.log import logger
from paluku.tokens.text import PAD, CharTokenizer, place

AGENT, USER = 0, 1  # channels of a dialogue

log = logger("tokens")


def dialogue_tokens(row: Mapping[str, Any], codec: Codec, tokenizer: CharTokenizer) -> dict[str, Any]:
    """A row of the dialogues schema to a row of the tokens schema (`corpus.shards.SCHEMAS`).

    The audio is followed by silence to whole frames. A word's text begins at the frame at which the word
    does; without words a turn's text is spread evenly over the turn (`tokens.text.place`). A turn that was
    cut off has the text that was spoken.

    Raises:
        AudioError: when the audio cannot be decoded, is not two channels, or not at the codec's rate.
    """
    wave, rate_hz = read(row["audio"], row["id"])
    if rate_hz != codec.sample_rate_hz:
        raise AudioError(f"{row['id']} has {rate_hz} Hz, the codec takes {codec.sample_rate_hz}; resample it")
    if wave.shape[1] != 2:
        raise AudioError(f"{row['id']} has {wave.shape[1]} channels; a dialogue has two, the reply's first")
    frame = codec.frame_samples
    num_frames = math.ceil(len(wave) / frame)
    padded = np.pad(wave, ((0, num_frames * frame - len(wave)), (0, 0)))
    with torch.inference_mode():
        codes = codec.encode(torch.from_numpy(np.ascontiguousarray(padded.T))[:, None]).numpy()
    return {
        **{key: row[key] for key in ("id", "split", "voice", "style")},
        "num_frames": num_frames,
        "agent_codes": codes[AGENT].astype(np.int16).ravel(),
        "user_codes": codes[USER].astype(np.int16).ravel(),
        "text": _text_stream(row, tokenizer, codec.frame_rate_hz, num_frames),
    }


def _text_stream(
    row: Mapping[str, Any], tokenizer: CharTokenizer, frame_rate_hz: float, num_frames: int
) -> np.ndarray:
    """The transcript of the agent's turns, int16 `[T]`; a turn's text ends where the next begins."""
    text = np.full(num_frames, PAD, np.int16)
    turns = [turn for turn in row["turns"] if turn["role"] == "agent" and turn["text"]]
    turns.sort(key=lambda turn: turn["start_s"])
    starts = [min(round(turn["start_s"] * frame_rate_hz), num_frames) for turn in turns]
    cut = 0
    for turn, limit in zip(turns, [*starts, num_frames][1:], strict=True):
        cut += _write(text, _pieces(turn), tokenizer, frame_rate_hz, limit)
    _say_what_was_cut(row["id"], cut, turns)
    return text


class _Piece(NamedTuple):
    """A stretch of a turn's text and when it is spoken."""

    text: str
    start_s: float
    end_s: float


def _pieces(turn: Mapping[str, Any]) -> list[_Piece]:
    """The turn's words, each with what stands after it; the turn as a whole where its words are not known."""
    words, text = turn.get("words") or [], turn["text"]
    firsts: list[int] = []
    place_after = 0
    for word in words:
        first = text.find(word["text"], place_after)
        if first < 0:
            return [_Piece(text, turn["start_s"], turn["end_s"])]
        firsts.append(first)
        place_after = first + len(word["text"])
    if not words:
        return [_Piece(text, turn["start_s"], turn["end_s"])]
    bounds = itertools.pairwise([0, *firsts[1:], len(text)])
    return [
        _Piece(text[first:last], word["start_s"], word["end_s"])
        for (first, last), word in zip(bounds, words, strict=True)
    ]


def _write(
    text: np.ndarray, pieces: Iterable[_Piece], tokenizer: CharTokenizer, frame_rate_hz: float, limit: int
) -> int:
    """Put the tokens of a turn into their frames, those before `limit`; how many found none.

    A piece of more tokens than frames delays the one after it: no frame has two tokens.
    """
    free = cut = 0
    for piece in pieces:
        tokens = tokenizer.encode(piece.text)
        start = min(max(round(piece.start_s * frame_rate_hz), free), limit)
        end = max(min(round(piece.end_s * frame_rate_hz), limit), start)
        placement = place(tokens, start, end, limit)
        text[placement.frames] = tokens[: len(placement.frames)]
        free = placement.frames[-1] + 1 if placement.frames else free
        cut += placement.cut
    return cut


def _say_what_was_cut(name: str, cut: int, turns: Iterable[Mapping[str, Any]]) -> None:
    if cut:
        characters = sum(len(turn["text"]) for turn in turns)
        log.warning("dialogue=%s text_tokens_cut=%d characters=%d", name, cut, characters)
