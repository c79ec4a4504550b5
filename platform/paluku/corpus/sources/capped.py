"""A part of a corpus that does not depend on its order: some languages; by hash, up to so many seconds."""

from collections.abc import Iterator
from typing import Protocol

from paluku.corpus.sources.port import Source
from paluku.corpus.splits import fraction
from paluku.corpus.utterance import Utterance

# What an utterance counts when its length is not known before decoding: the usual length of a read sentence.
USUAL_S = 6.0


class Capping(Protocol):
    """The settings that say how much is taken."""

    @property
    def max_source_s(self) -> float | None:
        """Seconds of each source, or all of it."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """As utterances name them, or without what follows a hyphen; none are all."""
        ...

    @property
    def seed(self) -> int:
        """Chooses."""
        ...


class Capped:
    """Another source, and of each `source` that its utterances name about `max_source_s` seconds."""

    def __init__(self, inner: Source, settings: Capping) -> None:
        self._inner, self._settings = inner, settings

    @property
    def name(self) -> str:
        """The inner source's."""
        return self._inner.name

    @property
    def licence(self) -> str:
        """The inner source's."""
        return self._inner.licence

    def iterate(self) -> Iterator[Utterance]:
        """The chosen ones, in the inner source's order.

        Raises:
            CorpusError: as the inner source.
        """
        if self._settings.max_source_s is None:
            yield from self._wanted()
            return
        listed = list(self._wanted())
        chosen = self._chosen(listed, self._settings.max_source_s)
        yield from (utterance for utterance in listed if (utterance.source, utterance.id) in chosen)

    def _wanted(self) -> Iterator[Utterance]:
        languages = self._settings.languages
        for utterance in self._inner.iterate():
            names = {utterance.language, utterance.language.partition("-")[0]}
            if not languages or names & {*languages}:
                yield utterance

    def _chosen(self, listed: list[Utterance], max_s: float) -> set[tuple[str, str]]:
        taken_s: dict[str, float] = {}
        chosen: set[tuple[str, str]] = set()
        for utterance in sorted(listed, key=lambda u: fraction(u.id, self._settings.seed)):
            before_s = taken_s.get(utterance.source, 0.0)
            if before_s < max_s:
                taken_s[utterance.source] = before_s + (utterance.duration_s or USUAL_S)
                chosen.add((utterance.source, utterance.id))
        return chosen
