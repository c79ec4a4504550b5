"""Learning a tokenizer's merges from texts.

The most frequent pair of tokens within words becomes a token, again and again (`tokens.text`).
"""

import json
from collections.abc import Iterable

from paluku.errors import ConfigError, CorpusError
from paluku.tokens.text import FIRST_BYTE, FIRST_OF_BLOCK, STRETCH, TELUGU, TextTokenizer

VOCAB_SIZE = 1024

# Zero width non-joiner: the one character outside the block that words are spelled with (నంబర్‌లు).
JOINER = "\u200c"


def learned(
    texts: Iterable[str], vocab_size: int = VOCAB_SIZE, block: tuple[int, int] = TELUGU
) -> TextTokenizer:
    """A tokenizer of exactly `vocab_size` ids; the same texts give the same one.

    Each text counts with a space before it, as turns are written (`tokens.extract`). Characters outside
    ASCII, the block and the joiner divide words: they stay spelled as bytes.

    Raises:
        ConfigError: when `vocab_size` has no room for bytes, block and joiner.
        CorpusError: when the texts hold too few different words for so many ids.
    """
    base = _joining(block)
    if vocab_size < base.vocab_size:
        raise ConfigError(
            f"the vocabulary's size is {vocab_size}; give at least {base.vocab_size}: so many ids are bytes, "
            "the script's characters and the joiner"
        )
    ids = _alphabet(base)
    merges = list(base.merges)
    for left, right in _pairs(texts, sorted(ids), vocab_size):
        if base.first_merge + len(merges) == vocab_size:
            break
        if left + right not in ids:  # else other pieces came to the same word before
            ids[left + right] = base.first_merge + len(merges)
            merges.append((ids[left], ids[right]))
    if base.first_merge + len(merges) < vocab_size:
        raise CorpusError(
            f"the texts give {base.first_merge + len(merges)} tokens, not {vocab_size}; give more texts"
        )
    return TextTokenizer(tuple(merges), block)


def _joining(block: tuple[int, int]) -> TextTokenizer:
    """The joiner as one token, made of its three bytes."""
    first, second, third = (FIRST_BYTE + byte for byte in JOINER.encode())
    return TextTokenizer(((first, second), (TextTokenizer((), block).first_merge, third)), block)


def _alphabet(base: TextTokenizer) -> dict[str, int]:
    """The id of every character that is one token."""
    ascii_ids = {chr(code): FIRST_BYTE + code for code in range(0x80)}
    first, last = base.block
    block_ids = {chr(code): FIRST_OF_BLOCK + code - first for code in range(first, last + 1)}
    return ascii_ids | block_ids | {JOINER: base.vocab_size - 1}


def _pairs(texts: Iterable[str], alphabet: list[str], vocab_size: int) -> list[tuple[str, str]]:
    """What to join, the most frequent first; some more than `vocab_size` ids need."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Split
    from tokenizers.trainers import BpeTrainer

    learner = Tokenizer(BPE())
    learner.pre_tokenizer = Split(Regex(STRETCH.pattern), "isolated")
    trainer = BpeTrainer(
        vocab_size=len(alphabet) + vocab_size,
        show_progress=False,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
    )
    known = frozenset(alphabet)
    learner.train_from_iterator(
        ("".join(c if c in known else "\n" for c in f" {text}") for text in texts), trainer
    )
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
