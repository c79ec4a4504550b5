"""What a source of speech is to the pipeline."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from paluku.corpus.utterance import Utterance


@runtime_checkable
class Source(Protocol):
    """A corpus as it was published, listed in an order that does not change between runs."""

    @property
    def name(self) -> str:
        """What its utterances carry as `source`; ids are unique below it."""
        ...

    @property
    def licence(self) -> str:
        """SPDX identifier of what it is published under; single utterances may say otherwise."""
        ...

    def iterate(self) -> Iterator[Utterance]:
        """All utterances; metadata is read, sound is not.

        Raises:
            CorpusError: when the place is missing, empty, or not laid out as the corpus is.
        """
        ...
