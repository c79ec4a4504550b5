"""One dialogue to one row of tokens: both channels through the codec, the reply's transcript by frame."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from paluku.audio import read
from paluku.codec.port import Codec
from paluku.errors import AudioError
from paluku.log import logger
from paluku.tokens.text import PAD, CharTokenizer, place
from paluku.units import frame_samples

AGENT, USER = 0, 1  # channels of a dialogue

log = logger("tokens")


def dialogue_tokens(row: Mapping[str, Any], codec: Codec, tokenizer: CharTokenizer) -> dict[str, Any]:
    """A row of the dialogues schema to a row of the tokens schema (`corpus.shards.SCHEMAS`).

    The audio is followed by silence to whole frames. The text alignment is estimated (`tokens.text.place`).

    Raises:
        AudioError: when the audio cannot be decoded, is not two channels, or not at the codec's rate.
    """
    wave, rate_hz = read(row["audio"], row["id"])
    if rate_hz != codec.sample_rate_hz:
        raise AudioError(f"{row['id']} has {rate_hz} Hz, the codec takes {codec.sample_rate_hz}; resample it")
    if wave.shape[1] != 2:
        raise AudioError(f"{row['id']} has {wave.shape[1]} channels; a dialogue has two, the reply's first")
    frame = frame_samples(rate_hz, codec.frame_rate_hz)
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
    row: Mapping[str, Any], tokenizer: CharTokenizer, frame_rate_hz: int, num_frames: int
) -> np.ndarray:
    """The transcript of the agent's turns, int16 `[T]`; a turn's text ends where the next begins."""
    text = np.full(num_frames, PAD, np.int16)
    turns = [turn for turn in row["turns"] if turn["role"] == "agent" and turn["text"]]
    turns.sort(key=lambda turn: turn["start_s"])
    starts = [min(round(turn["start_s"] * frame_rate_hz), num_frames) for turn in turns]
    cut = 0
    for turn, start, limit in zip(turns, starts, [*starts, num_frames][1:], strict=True):
        tokens = tokenizer.encode(turn["text"])
        end = max(min(round(turn["end_s"] * frame_rate_hz), limit), start)
        placement = place(tokens, start, end, limit)
        text[placement.frames] = tokens[: len(placement.frames)]
        cut += placement.cut
    _say_what_was_cut(row["id"], cut, turns)
    return text


def _say_what_was_cut(name: str, cut: int, turns: Iterable[Mapping[str, Any]]) -> None:
    if cut:
        characters = sum(len(turn["text"]) for turn in turns)
        log.warning("dialogue=%s text_tokens_cut=%d characters=%d", name, cut, characters)
