"""IndicTTS Telugu (IIT Madras): one woman and one man in a studio, 8.7 hours, 48 kHz.

    sources:
      - kind: indictts
        folder: /data/indictts_te
        download: true        # 6.4 GB from huggingface.co/datasets/SPRINGLab/IndicTTS_Telugu

Published as Parquet with the columns `audio`, `text` and `gender` (class label: female, male); 8,576 rows.
The data set's card names no SPDX licence and refers to the Indic TTS Database's own terms (use with
attribution, "A Unified Framework for Collecting Text-to-Speech Synthesis Datasets for 22 Indian Languages",
2024): read them, and set `licence` if you hold another.
"""

from collections.abc import Iterator
from typing import Literal

from paluku.corpus.sources.huggingface import HubDataset, HubFolder, OpenRows, Row, hub_rows, listed
from paluku.corpus.sources.tree import gender_of
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError


class IndicTtsConfig(HubFolder):
    """Settings of IndicTTS; other languages of the same makers have the same columns."""

    kind: Literal["indictts"] = "indictts"
    repository: str = "SPRINGLab/IndicTTS_Telugu"
    language: str = "te"
    licence: str = "LicenseRef-IndicTTS"


class IndicTts:
    """Studio recordings of two speakers."""

    name = "indictts"

    def __init__(self, config: IndicTtsConfig, open_rows: OpenRows = hub_rows) -> None:
        self._config, self._open_rows = config, open_rows

    @property
    def licence(self) -> str:
        """The Indic TTS Database's own, unless the settings say otherwise."""
        return self._config.licence

    def iterate(self) -> Iterator[Utterance]:
        """All rows, in the data set's order.

        Raises:
            CorpusError: when the rows are not there and cannot be fetched, or one lacks a column.
        """
        dataset = HubDataset(repository=self._config.repository, revision=self._config.revision)
        yield from listed(self._config, dataset, self._config.folder, self._describe, self._open_rows)

    def _describe(self, row: Row, origin: str) -> Row:
        gender = gender_of(row.get("gender"))
        if gender is None or not row.get("text"):
            raise CorpusError(
                f"{origin} has no text or no gender (columns: {', '.join(row)}); is it IndicTTS?"
            )
        return {
            "source": self.name,
            "licence": self.licence,
            "language": self._config.language,
            "speaker": f"indictts_{self._config.language}_{gender}",  # one speaker of each gender
            "gender": gender,
            "text": row["text"],
        }
