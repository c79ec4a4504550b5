"""Recorded conversations, one speaker a channel, into the rows that rendered dialogues have.

    FOLDER/**/*.wav (flac, ogg, mp3)     two channels each
    FOLDER/transcripts.jsonl             optional: {"path", "turns": [{"role", "text", "start_s", "end_s",
                                         "kind", "words": [{"text", "start_s", "end_s"}]}], "user", "licence"}

Without turns in a transcript they are found by level alone and have no text. A long conversation is cut where
both are silent. Whoever is on the reply's channel counts as one of the four reply voices: say which.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from paluku import audio
from paluku.config import AbsolutePath, Config
from paluku.corpus.preparation.quality import UnusableError
from paluku.corpus.shards import Split
from paluku.corpus.splits import SplitShares, split_of
from paluku.errors import ConfigError, CorpusError
from paluku.units import FRAME_RATE_HZ, frame_samples
from paluku.voices import StyleName, VoiceName

SOUND_FILES = (".wav", ".flac", ".ogg", ".mp3")
TRANSCRIPTS = "transcripts.jsonl"

# Speech is what lies within this of the channel's loud moments; another channel's crosstalk lies below.
SPEECH_RANGE_DB = 30.0
LOUD_QUANTILE = 0.95
WINDOW_S = 0.02
JOINED_S = 0.5  # a shorter silence is a pause within a turn
SHORTEST_S = 0.12  # a shorter sound is a click
BACKCHANNEL_S = 0.8  # and within the other's turn

# What lasts no longer than a frame beyond the recording is a matter of rounding.
BEYOND_S = 1 / FRAME_RATE_HZ

Kind = Literal["turn", "backchannel", "interruption", "cut"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TimedWord(Config):
    """A word and where it is said."""

    text: str
    start_s: Seconds
    end_s: Seconds


class TimedTurn(Config):
    """A turn and where it is said; words are in order, and within the turn."""

    role: Literal["user", "agent"]
    text: str = ""
    start_s: Seconds
    end_s: Seconds
    kind: Kind = "turn"
    words: tuple[TimedWord, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> "TimedTurn":
        edges = [self.start_s, *(edge for w in self.words for edge in (w.start_s, w.end_s)), self.end_s]
        if edges != sorted(edges) or self.start_s == self.end_s:
            raise ValueError(
                f"a turn from {self.start_s} to {self.end_s} s has words outside it or out of order"
            )
        return self


class Transcript(Config):
    """One line of a file of transcripts."""

    path: str  # below the folder
    turns: tuple[TimedTurn, ...] = ()  # none: to be found
    user: str | None = None  # who speaks to the reply's voice: kept in one split
    licence: str | None = None


class ConversationsConfig(Config):
    """A folder of recorded conversations."""

    folder: AbsolutePath
    transcripts: AbsolutePath | None = None  # none: transcripts.jsonl in the folder, where there is one
    reply_channel: Literal[0, 1] = 0
    voice: VoiceName
    style: StyleName = "neutral"
    source: str | None = None  # none: the folder's name
    licence: str = "unknown"
    max_s: float = Field(default=60.0, gt=1)

    @property
    def name(self) -> str:
        """What its rows carry as `source`."""
        return self.source or self.folder.name


class Conversation(Config):
    """One recording to be read."""

    id: str
    path: str  # below the folder
    split: Split
    user_voice: str
    turns: tuple[TimedTurn, ...] | None  # none: to be found
    licence: str


class Piece(NamedTuple):
    """A stretch of a conversation, as `corpus.dialogues.rendering.Rendered`."""

    wave: np.ndarray  # float32 [S, 2], the reply's channel first, whole frames of 40 ms
    turns: list[dict[str, Any]]


def list_conversations(
    config: ConversationsConfig, shares: SplitShares, seed: int
) -> tuple[Conversation, ...]:
    """All recordings below the folder, by name; nothing is decoded.

    Raises:
        CorpusError: when the folder holds none, or a transcript does not fit or names no file in it.
    """
    files = sorted(p for p in config.folder.rglob("*") if p.suffix.lower() in SOUND_FILES)
    if not files:
        raise CorpusError(f"{config.folder} holds no conversations; put two-channel WAV or FLAC files there")
    transcripts = _transcripts(config)
    names = [path.relative_to(config.folder).as_posix() for path in files]
    if unknown := sorted(set(transcripts) - set(names)):
        raise CorpusError(f"a transcript names {unknown[0]}, which is not in {config.folder}; mend its path")
    return tuple(_conversation(name, transcripts.get(name), config, shares, seed) for name in names)


def rows(conversation: Conversation, config: ConversationsConfig, rate_hz: int) -> Iterator[dict[str, Any]]:
    """The rows of a conversation, one for each piece of at most `max_s`.

    Raises:
        AudioError: when the file cannot be decoded.
        UnusableError: "channels" when it has not two of them, "silent" when nobody speaks, "transcript"
            when it ends before a turn does.
    """
    wave = _channels(conversation, config, rate_hz)
    turns = _found(wave, rate_hz) if conversation.turns is None else conversation.turns
    for number, piece in enumerate(pieces(wave, turns, rate_hz, config.max_s)):
        yield {
            "id": f"{conversation.id}#{number:04d}",
            "audio": audio.to_flac(piece.wave, rate_hz),
            "sample_rate_hz": rate_hz,
            "num_samples": len(piece.wave),
            "voice": config.voice,
            "style": config.style,
            "user_voice": conversation.user_voice,
            "intents": [],
            "turns": piece.turns,
            "augmentation": json.dumps({}),
            "source": config.name,
            "licence": conversation.licence,
            "split": conversation.split,
        }


def pieces(wave: np.ndarray, turns: Sequence[TimedTurn], rate_hz: int, max_s: float) -> Iterator[Piece]:
    """Cut `[S, 2]` where nobody speaks; no turn is in two pieces.

    A piece is longer than `max_s` only where nobody falls silent for so long.

    Raises:
        UnusableError: "silent" when there are no turns, "transcript" when one is beyond the wave's end.
    """
    if not turns:
        raise UnusableError("silent", "nobody speaks")
    ordered = sorted(turns, key=lambda turn: (turn.start_s, turn.end_s))
    length_s = len(wave) / rate_hz
    last = max(ordered, key=lambda turn: turn.end_s)
    if last.end_s > length_s + BEYOND_S or ordered[-1].start_s >= length_s:
        raise UnusableError(
            "transcript",
            f"a turn from {last.start_s:.2f} to {last.end_s:.2f} s in a recording of {length_s:.2f} s; "
            "mend its times",
        )
    first, start_s, spoken_s = 0, 0.0, 0.0
    for number, turn in enumerate(ordered):
        if number > first and turn.start_s >= spoken_s and turn.end_s - start_s > max_s:
            cut_s = (spoken_s + turn.start_s) / 2
            yield _piece(wave, ordered[first:number], start_s, cut_s, rate_hz)
            first, start_s = number, cut_s
        spoken_s = max(spoken_s, turn.end_s)
    yield _piece(wave, ordered[first:], start_s, length_s, rate_hz)


def _piece(wave: np.ndarray, turns: Sequence[TimedTurn], start_s: float, end_s: float, rate_hz: int) -> Piece:
    part = wave[round(start_s * rate_hz) : round(end_s * rate_hz)]
    part = np.pad(part, ((0, -len(part) % frame_samples(rate_hz)), (0, 0)))
    last_s = len(part) / rate_hz

    def moved(second: float) -> float:
        return min(max(second - start_s, 0.0), last_s)

    told = []
    for turn in turns:
        words = [{"text": w.text, "start_s": moved(w.start_s), "end_s": moved(w.end_s)} for w in turn.words]
        about = {"role": turn.role, "text": turn.text, "kind": turn.kind, "is_timed": bool(words)}
        told.append(about | {"start_s": moved(turn.start_s), "end_s": moved(turn.end_s), "words": words})
    return Piece(part, told)


def _channels(conversation: Conversation, config: ConversationsConfig, rate_hz: int) -> np.ndarray:
    wave, from_hz = audio.read(config.folder / conversation.path, conversation.id)
    if wave.shape[1] != 2:
        raise UnusableError("channels", f"{wave.shape[1]} instead of 2, one for each speaker")
    if config.reply_channel == 1:
        wave = wave[:, ::-1]
    return np.ascontiguousarray(audio.resample(wave, from_hz, rate_hz), np.float32)


def _found(wave: np.ndarray, rate_hz: int) -> tuple[TimedTurn, ...]:
    """Turns by level; a short one within the reply's is a backchannel."""
    agent, user = (_stretches(wave[:, channel], rate_hz) for channel in (0, 1))
    turns = [TimedTurn(role="agent", start_s=start, end_s=end) for start, end in agent]
    for start, end in user:
        is_within = any(a <= start and end <= b for a, b in agent)
        kind: Kind = "backchannel" if is_within and end - start <= BACKCHANNEL_S else "turn"
        turns.append(TimedTurn(role="user", start_s=start, end_s=end, kind=kind))
    return tuple(turns)


def _stretches(channel: np.ndarray, rate_hz: int) -> list[tuple[float, float]]:
    """Where one speaker speaks, in seconds."""
    window = round(WINDOW_S * rate_hz)
    padded = np.pad(channel, (0, -len(channel) % window)).reshape(-1, window)
    power = np.square(padded, dtype=np.float64).mean(axis=1)
    sounding = power[power > 0]
    if not len(sounding):
        return []
    floor = np.quantile(sounding, LOUD_QUANTILE) * 10 ** (-SPEECH_RANGE_DB / 10)
    joined: list[tuple[float, float]] = []
    for place in np.flatnonzero(power >= floor):
        start, end = place * window / rate_hz, min((place + 1) * window, len(channel)) / rate_hz
        if joined and start - joined[-1][1] < JOINED_S:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [(start, end) for start, end in joined if end - start >= SHORTEST_S]


def _conversation(
    name: str,
    transcript: Transcript | None,
    config: ConversationsConfig,
    shares: SplitShares,
    seed: int,
) -> Conversation:
    source = config.name
    user = f"{source}/{(transcript and transcript.user) or name}"
    return Conversation(
        id=f"{source}/{name}",
        path=name,
        split=split_of(f"conversation/{user}", shares, seed),
        user_voice=user,
        turns=(transcript.turns or None) if transcript else None,
        licence=(transcript and transcript.licence) or config.licence,
    )


def _transcripts(config: ConversationsConfig) -> dict[str, Transcript]:
    path = config.transcripts or config.folder / TRANSCRIPTS
    if config.transcripts is None and not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); give a UTF-8 JSONL file") from error
    try:
        told = [Transcript.from_json(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    except ConfigError as error:
        raise CorpusError(str(error)) from error
    found = {transcript.path: transcript for transcript in told}
    if len(found) < len(told):
        raise CorpusError(f"{path} has two transcripts of one file; keep one")
    return found
