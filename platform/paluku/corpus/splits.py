"""Which split a row belongs to: a pure function of a key, so that growing a corpus moves nothing.

The key is what must not be shared between splits: the speaker of an utterance, the question of a dialogue.
"""

import hashlib

import numpy as np
from pydantic import Field, model_validator

from paluku.config import Config
from paluku.corpus.shards import Split

# 53 bits: the most that a float holds exactly.
HASH_BITS = 53


class SplitShares(Config):
    """Expected shares of keys; what is left is for training."""

    dev: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "SplitShares":
        if self.dev + self.test >= 1:
            raise ValueError(f"dev {self.dev} and test {self.test} leave nothing to train on; lower them")
        return self


class CorpusShares(SplitShares):
    """Shares of speakers; all utterances of the sources that are named go where they are named."""

    train_sources: tuple[str, ...] = ()  # such as synthetic voices, which nobody is to be surprised by
    test_sources: tuple[str, ...] = ()  # such as a corpus that results are compared on

    @model_validator(mode="after")
    def _one_place_each(self) -> "CorpusShares":
        if both := sorted({*self.train_sources} & {*self.test_sources}):
            raise ValueError(f"{both[0]} is in train_sources and in test_sources; name it in one of them")
        return self


def split_of_speaker(source: str, speaker: str, shares: CorpusShares, seed: int) -> Split:
    """The split of all that a speaker of a source says."""
    if source in shares.train_sources:
        return "train"
    if source in shares.test_sources:
        return "test"
    return split_of(f"{source}/{speaker}", shares, seed)


def split_of(key: str, shares: SplitShares, seed: int) -> Split:
    """The split of every row with this key."""
    place = fraction(key, seed)
    if place < shares.dev:
        return "dev"
    return "test" if place < shares.dev + shares.test else "train"


def fraction(key: str, seed: int) -> float:
    """A number in [0, 1) that looks random and depends on the key and the seed alone."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - HASH_BITS)) / 2**HASH_BITS


def generator(name: str, seed: int) -> np.random.Generator:
    """Random numbers that depend on a name and a seed alone."""
    return np.random.default_rng((seed, int(fraction(name, seed) * 2**HASH_BITS)))
