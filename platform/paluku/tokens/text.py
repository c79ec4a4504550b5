"""The text stream's tokenizer: one token a frame, most of them "no text here".

Telugu speech runs at 12 to 15 characters a second. With one token for each code point of its block the
transcript fits the 25 frames of a second; anything else is spelled as UTF-8 bytes.
"""

import codecs
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

PAD = 0  # no text at this frame
FIRST_BYTE = 1
FIRST_OF_BLOCK = FIRST_BYTE + 256
TELUGU = (0x0C00, 0x0C7F)


@dataclass(frozen=True)
class CharTokenizer:
    """Ids: `PAD`, 256 bytes, then the code points of `block` (first and last, inclusive)."""

    block: tuple[int, int] = TELUGU

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return FIRST_OF_BLOCK + self.block[1] - self.block[0] + 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without `PAD`; lone surrogates, which are no characters, become `?`."""
        ids: list[int] = []
        for character in text:
            if self.block[0] <= ord(character) <= self.block[1]:
                ids.append(FIRST_OF_BLOCK + ord(character) - self.block[0])
            else:
                ids.extend(FIRST_BYTE + byte for byte in character.encode("utf-8", "replace"))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; `PAD` is skipped, bytes that are no UTF-8 become U+FFFD.

        Raises:
            ValueError: for an id outside the vocabulary.
        """
        stream = TextStream(self)
        return "".join([stream.feed(token) for token in ids]) + stream.finish()

    def to_json(self) -> str:
        """What `from_json` reads: the id assignment, by name and block."""
        return json.dumps({"tokenizer": "char", "version": 1, "block": list(self.block)})

    @classmethod
    def from_json(cls, text: str) -> "CharTokenizer":
        """Read back what `to_json` wrote.

        Raises:
            ValueError: when the text is no JSON, or describes another kind of tokenizer.
        """
        match json.loads(text):
            case {"tokenizer": "char", "version": 1, "block": [int(first), int(last)]} if first <= last:
                return cls((first, last))
            case other:
                raise ValueError(f"{str(other)[:80]} describes no character tokenizer of version 1")

    def digest(self) -> str:
        """Names the id assignment: 16 hex digits, as a model card's hash."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


class TextStream:
    """Decodes one token at a time: a character comes out with its last byte."""

    def __init__(self, tokenizer: CharTokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that this token completes; often none.

        Raises:
            ValueError: for an id outside the vocabulary.
        """
        if not 0 <= token < self._tokenizer.vocab_size:
            raise ValueError(f"token {token} is outside [0, {self._tokenizer.vocab_size})")
        if token == PAD:
            return ""
        if token < FIRST_OF_BLOCK:
            return self._bytes.decode(bytes([token - FIRST_BYTE]))
        return self.finish() + chr(self._tokenizer.block[0] + token - FIRST_OF_BLOCK)

    def finish(self) -> str:
        """What is left: U+FFFD for a character that was cut off."""
        return self._bytes.decode(b"", final=True)


class Placement(NamedTuple):
    """The frame of each token that found one, in order, and how many found none."""

    frames: list[int]
    cut: int


def place(tokens: Sequence[int], start_frame: int, end_frame: int, num_frames: int) -> Placement:
    """Spread a turn's tokens evenly over the frames `[start_frame, end_frame)` of its speech.

    This is an ESTIMATED alignment: it knows when a turn begins and ends, not where its words lie.
    More tokens than frames: one a frame from the start on, past the end of the speech if need be;
    what would stand at `num_frames` or later is cut and counted.
    """
    assert 0 <= start_frame <= end_frame, f"speech from frame {start_frame} to {end_frame}"
    count, room = len(tokens), max(end_frame - start_frame, len(tokens))
    frames = [start_frame + index * room // count for index in range(count)]
    kept = [frame for frame in frames if frame < num_frames]
    return Placement(kept, count - len(kept))
