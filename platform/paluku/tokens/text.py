"""The text stream's tokenizer: one token a frame, most of them "no text here".

Byte-pair encoding (Sennrich et al. 2016, "Neural machine translation of rare words with subword units"; run
by package `tokenizers`) over the bytes of UTF-8 and the characters of one script. What is outside the script
is spelled as bytes, so that every text comes back as it was. Tokens never span words: a word, with the space
before it, is a stretch of its own, which can be placed where it is spoken.
"""

import codecs
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from paluku.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers.models import BPE

PAD = 0  # no text at this frame
FIRST_BYTE = 1
FIRST_OF_BLOCK = FIRST_BYTE + 256
TELUGU = (0x0C00, 0x0C7F)
KIND, VERSION = "bpe", 1

# A word with the space before it; a mark of ASCII punctuation; any other white space.
STRETCH = re.compile(r" ?[^\s!-/:-@\[-`{-~]+|[!-/:-@\[-`{-~]|\s")

SHIPPED = Path(__file__).parent / "data" / "tokenizer.json"


@dataclass(frozen=True)
class TextTokenizer:
    """Ids: `PAD`, 256 bytes, the code points of `block` (first and last, inclusive), then one for each merge.

    Merge `n` joins two ids to the `n`th id after the block; earlier ones go first.

    Raises:
        ValueError: when the block is empty, a merge joins what comes after it, or two merges are the same.
    """

    merges: tuple[tuple[int, int], ...] = ()
    block: tuple[int, int] = TELUGU

    def __post_init__(self) -> None:
        if not 0x80 <= self.block[0] <= self.block[1] <= 0x10FFFF:
            raise ValueError(f"{self.block} is no block of code points above ASCII")
        for number, pair in enumerate(self.merges):
            if not all(FIRST_BYTE <= token < self.first_merge + number for token in pair):
                raise ValueError(f"merge {number} joins {pair}, which it does not know yet")
        if len(set(self._names)) < len(self._names):
            raise ValueError("two merges give the same token")

    @property
    def first_merge(self) -> int:
        """The id of the first merge."""
        return FIRST_OF_BLOCK + self.block[1] - self.block[0] + 1

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self.first_merge + len(self.merges)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without `PAD`; lone surrogates, which are no characters, become `?`.

        The ids of a text are those of its words, each with the space before it, one after the other.
        """
        characters = text.encode("utf-8", "replace").decode()
        return [token.id for stretch in STRETCH.findall(characters) for token in self._bpe.tokenize(stretch)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; `PAD` is skipped, bytes that are no UTF-8 become U+FFFD.

        Raises:
            ValueError: for an id outside the vocabulary.
        """
        return b"".join(map(self.spelling, ids)).decode("utf-8", "replace")

    def spelling(self, token: int) -> bytes:
        """The UTF-8 bytes that an id stands for, perhaps a part of a character; none for `PAD`.

        Raises:
            ValueError: for an id outside the vocabulary.
        """
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token {token} is outside [0, {self.vocab_size})")
        return self._spellings[token]

    def to_json(self) -> str:
        """What `from_json` reads: the id assignment."""
        described = {"tokenizer": KIND, "version": VERSION, "block": self.block, "merges": self.merges}
        return json.dumps(described)

    @classmethod
    def from_json(cls, text: str) -> "TextTokenizer":
        """Read back what `to_json` wrote.

        Raises:
            ValueError: when the text is no JSON, or describes another kind of tokenizer.
        """
        match json.loads(text):
            case {"tokenizer": "bpe", "version": 1, "block": [int(first), int(last)], "merges": list(merges)}:
                return cls(tuple(map(_pair, merges)), (first, last))
            case other:
                raise ValueError(f"{str(other)[:80]} describes no BPE tokenizer of version {VERSION}")

    def digest(self) -> str:
        """Names the id assignment: 16 hex digits, as a model card's hash."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @functools.cached_property
    def _spellings(self) -> tuple[bytes, ...]:
        spelled = [b"", *(bytes([byte]) for byte in range(256))]
        spelled += [chr(code).encode() for code in range(self.block[0], self.block[1] + 1)]
        for left, right in self.merges:
            spelled.append(spelled[left] + spelled[right])
        return tuple(spelled)

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        """What package `tokenizers` calls each id: itself, and `<0xE0>` for a byte of a longer character."""
        names = ["<pad>", *map(chr, range(0x80)), *(f"<0x{byte:02X}>" for byte in range(0x80, 0x100))]
        names += map(chr, range(self.block[0], self.block[1] + 1))
        for left, right in self.merges:
            names.append(names[left] + names[right])
        return tuple(names)

    @functools.cached_property
    def _bpe(self) -> "BPE":
        # Here: whoever needs only `PAD` or the sizes does without the package.
        from tokenizers.models import BPE

        vocabulary = {name: token for token, name in enumerate(self._names)}
        merges = [(self._names[left], self._names[right]) for left, right in self.merges]
        return BPE(vocab=vocabulary, merges=merges, byte_fallback=True)


def _pair(merge: object) -> tuple[int, int]:
    match merge:
        case [int(left), int(right)]:
            return left, right
    raise ValueError(f"{str(merge)[:80]} is no pair of ids")


def read_tokenizer(path: Path) -> TextTokenizer:
    """The tokenizer of a file that holds what `to_json` wrote.

    Raises:
        CheckpointError: when it cannot be read, or holds something else.
    """
    try:
        return TextTokenizer.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a tokenizer ({error}); fetch it again, or make one with "
            "jobs/train_tokenizer.py"
        ) from error


@functools.cache
def default_tokenizer() -> TextTokenizer:
    """The one that is shipped: Telugu, learned from the shipped turns (`jobs/train_tokenizer.py`), 1024 ids.

    Raises:
        CheckpointError: when its file is missing or damaged.
    """
    return read_tokenizer(SHIPPED)


class TextStream:
    """Decodes one token at a time: a character comes out with its last byte."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that this token completes; often none.

        Raises:
            ValueError: for an id outside the vocabulary.
        """
        return self._bytes.decode(self._tokenizer.spelling(token))

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
