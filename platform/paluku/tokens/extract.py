"""Dialogues to rows of tokens: both channels through the codec, what both sides say by frame.

The reply's text leads its sound: a word's tokens stand from the frame on at which the word begins, one a
frame (Moshi, Défossez et al. 2024, section 3.4.4). The user's text is what can be told from what was heard:
a word's tokens stand from `HEARD_AFTER` frames after the word's end on.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from paluku.audio import read
from paluku.codec.port import Codec
from paluku.errors import AudioError
from paluku.log import logger
from paluku.tokens.stops import silenced, sooner
from paluku.tokens.text import PAD, TextTokenizer, place

AGENT, USER = 0, 1  # channels of a dialogue

# A model hears a frame once it is over; one frame more tells a word from the beginning of a longer one.
HEARD_AFTER = 2
# Two frames: what a model can hear of an interruption before it is asked to have stopped.
STOP_S = 0.08

log = logger("tokens")


def dialogue_tokens(
    row: Mapping[str, Any], codec: Codec, tokenizer: TextTokenizer, stop_s: float | None = STOP_S
) -> dict[str, Any]:
    """A row of the dialogues schema to a row of the tokens schema (`corpus.shards.SCHEMAS`).

    The audio is followed by silence to whole frames. A turn's text begins with a space; a reply's ends where
    the next begins; a turn that was cut off has the text that was spoken. Without words a reply's text is
    spread evenly over its turn (`tokens.text.place`), a user's follows the turn. A reply that the user talks
    into is silent after `stop_s` (`tokens.stops`); none leaves it as it was.

    Raises:
        AudioError: when the audio cannot be decoded, is not two channels, or not at the codec's rate.
    """
    return next(rows_of_tokens([row], codec, tokenizer, 0.0, stop_s))


def rows_of_tokens(
    rows: Iterable[Mapping[str, Any]],
    codec: Codec,
    tokenizer: TextTokenizer,
    batch_s: float,
    stop_s: float | None = STOP_S,
) -> Iterator[dict[str, Any]]:
    """The tokens of each dialogue, in order; several go through the codec at once.

    As many as lie within `batch_s` seconds of sound, both channels and padding counted; at least one. The
    codec is causal, or hears silence after the end: what others are as long as changes no code.

    Raises:
        AudioError: as `dialogue_tokens`.
    """
    limit = batch_s * codec.frame_rate_hz
    waiting: list[_Heard] = []
    for row in rows:
        heard = _heard(row, codec, stop_s)
        longest = max(other.num_frames for other in [heard, *waiting])
        if waiting and 2 * longest * (len(waiting) + 1) > limit:
            yield from _coded(waiting, codec, tokenizer)
            waiting = []
        waiting.append(heard)
    if waiting:
        yield from _coded(waiting, codec, tokenizer)


class _Heard(NamedTuple):
    """A dialogue and its sound: float32 `[2, S]`, whole frames."""

    row: Mapping[str, Any]
    wave: np.ndarray
    num_frames: int


def _heard(row: Mapping[str, Any], codec: Codec, stop_s: float | None) -> _Heard:
    wave, rate_hz = read(row["audio"], row["id"])
    if rate_hz != codec.sample_rate_hz:
        raise AudioError(f"{row['id']} has {rate_hz} Hz, the codec takes {codec.sample_rate_hz}; resample it")
    if wave.shape[1] != 2:
        raise AudioError(f"{row['id']} has {wave.shape[1]} channels; a dialogue has two, the reply's first")
    if stop_s is not None:
        turns, stops = sooner(row["turns"], stop_s)
        row = {**row, "turns": turns}
        reply = silenced(wave[:, AGENT], stops, rate_hz)
        wave = np.stack((reply, wave[:, USER]), axis=1)
    num_frames = math.ceil(len(wave) / codec.frame_samples)
    padded = np.pad(wave, ((0, num_frames * codec.frame_samples - len(wave)), (0, 0)))
    return _Heard(row, padded.T, num_frames)


def _coded(batch: Sequence[_Heard], codec: Codec, tokenizer: TextTokenizer) -> Iterator[dict[str, Any]]:
    longest = max(heard.num_frames for heard in batch)
    waves = np.zeros((2 * len(batch), 1, longest * codec.frame_samples), np.float32)
    for place_, heard in enumerate(batch):
        waves[2 * place_ : 2 * place_ + 2, 0, : heard.wave.shape[1]] = heard.wave
    with torch.inference_mode():
        codes = codec.encode(torch.from_numpy(waves)).numpy().astype(np.int16)
    for place_, (row, _, num_frames) in enumerate(batch):
        agent, user = codes[2 * place_ : 2 * place_ + 2, :, :num_frames]
        yield {
            **{key: row[key] for key in ("id", "split", "voice", "style")},
            "num_frames": num_frames,
            "agent_codes": agent.ravel(),
            "user_codes": user.ravel(),
            "text": said_stream(row, tokenizer, codec.frame_rate_hz, num_frames),
            "user_text": heard_stream(row, tokenizer, codec.frame_rate_hz, num_frames),
            "user_turns": user_turns(row, codec.frame_rate_hz, num_frames),
        }


def user_turns(row: Mapping[str, Any], frame_rate_hz: float, num_frames: int) -> list[dict[str, Any]]:
    """The user's turns: text, the intent it stands for (else ""), the frames `[start, end)` it lies in."""
    turns, intents = _turns(row, "user"), row.get("intents") or []
    asks = [turn for turn in turns if turn.get("kind") != "backchannel"]
    # Recorded conversations have no intents, and what is said besides is none's.
    named = dict(zip(map(id, asks), intents, strict=True)) if len(asks) == len(intents) else {}
    return [
        {
            "text": turn["text"],
            "intent": named.get(id(turn), ""),
            "start": min(int(turn["start_s"] * frame_rate_hz), num_frames),
            "end": min(math.ceil(turn["end_s"] * frame_rate_hz), num_frames),
        }
        for turn in turns
    ]


def said_stream(
    row: Mapping[str, Any], tokenizer: TextTokenizer, frame_rate_hz: float, num_frames: int
) -> np.ndarray:
    """The transcript of the agent's turns, int16 `[T]`; a turn's text ends where the next begins."""
    text = np.full(num_frames, PAD, np.int16)
    turns = _turns(row, "agent")
    starts = [min(round(turn["start_s"] * frame_rate_hz), num_frames) for turn in turns]
    cut = 0
    for turn, limit in zip(turns, [*starts, num_frames][1:], strict=True):
        cut += _write(text, _said(turn, frame_rate_hz), tokenizer, limit)
    _say_what_was_cut(row["id"], "text", cut, turns)
    return text


def heard_stream(
    row: Mapping[str, Any], tokenizer: TextTokenizer, frame_rate_hz: float, num_frames: int
) -> np.ndarray:
    """The transcript of the user's turns, int16 `[T]`: no token before its word is over.

    A word whose end is not known is over with its turn; what finds no frame before the end is cut.
    """
    text = np.full(num_frames, PAD, np.int16)
    turns = _turns(row, "user")
    words = [word for turn in turns for word in _words(turn) or [_whole(turn)]]
    words.sort(key=lambda word: word.end_s)
    frames = (math.ceil(word.end_s * frame_rate_hz) + HEARD_AFTER for word in words)
    pieces = (_Piece(word.text, frame, frame) for word, frame in zip(words, frames, strict=True))
    _say_what_was_cut(row["id"], "user_text", _write(text, pieces, tokenizer, num_frames), turns)
    return text


class _Word(NamedTuple):
    """A stretch of a turn's text and when it is spoken."""

    text: str
    start_s: float
    end_s: float


class _Piece(NamedTuple):
    """Text to be spread over the frames `[start, end)`, one token a frame where they are too few."""

    text: str
    start: int
    end: int


def _turns(row: Mapping[str, Any], role: str) -> list[Mapping[str, Any]]:
    turns = [turn for turn in row["turns"] if turn["role"] == role and turn["text"]]
    return sorted(turns, key=lambda turn: turn["start_s"])


def _said(turn: Mapping[str, Any], frame_rate_hz: float) -> list[_Piece]:
    if words := _words(turn):
        starts = [round(word.start_s * frame_rate_hz) for word in words]
        return [_Piece(word.text, start, start) for word, start in zip(words, starts, strict=True)]
    text, start_s, end_s = _whole(turn)
    return [_Piece(text, round(start_s * frame_rate_hz), round(end_s * frame_rate_hz))]


def _whole(turn: Mapping[str, Any]) -> _Word:
    """A turn begins with a space, as every other word does: it is one word more for the model."""
    return _Word(f" {turn['text']}", turn["start_s"], turn["end_s"])


def _words(turn: Mapping[str, Any]) -> list[_Word]:
    """The turn's words, each with the space and the marks around it; none where they are not known."""
    text, after = _whole(turn).text, 0
    bounds: list[int] = []
    for word in turn.get("words") or []:
        first = text.find(word["text"], after)
        if first < 0:
            return []
        space = text.rfind(" ", after, first)
        bounds.append(first if space < 0 else space)
        after = first + len(word["text"])
    pieces = zip([0, *bounds[1:]], [*bounds[1:], len(text)], turn.get("words") or [], strict=False)
    return [_Word(text[first:last], word["start_s"], word["end_s"]) for first, last, word in pieces]


def _write(text: np.ndarray, pieces: Iterable[_Piece], tokenizer: TextTokenizer, limit: int) -> int:
    """Put tokens into their frames, those before `limit`; how many found none.

    A piece of more tokens than frames delays the one after it: no frame has two tokens.
    """
    free = cut = 0
    for piece in pieces:
        tokens = tokenizer.encode(piece.text)
        start = min(max(piece.start, free), limit)
        placement = place(tokens, start, max(min(piece.end, limit), start), limit)
        text[placement.frames] = tokens[: len(placement.frames)]
        free = placement.frames[-1] + 1 if placement.frames else free
        cut += placement.cut
    return cut


def _say_what_was_cut(name: str, stream: str, cut: int, turns: Iterable[Mapping[str, Any]]) -> None:
    if cut:
        characters = sum(len(turn["text"]) for turn in turns)
        log.warning("dialogue=%s stream=%s tokens_cut=%d characters=%d", name, stream, cut, characters)
