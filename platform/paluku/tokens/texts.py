"""What a tokenizer learns from: written turns, the transcripts of a corpus, text files."""

from pathlib import Path

from paluku.corpus.report.scan import scan
from paluku.corpus.shards import AnyFolder, read_manifest
from paluku.corpus.storage import Place
from paluku.corpus.text import normalise
from paluku.corpus.turns import Intent
from paluku.errors import CorpusError


def trained_on(intent: Intent) -> list[str]:
    """What is said with an intent, without the held-out ways to ask it."""
    return [*intent.asks, *(reply.text for reply in intent.replies)]


def transcripts(folder: AnyFolder) -> list[str]:
    """What is said in the training split of a corpus of utterances, where that is known.

    Raises:
        CorpusError: when it is no such corpus, or a shard cannot be read.
    """
    place = Place.of(folder)
    tables = (batch.rows for batch in scan(place, read_manifest(place, "utterances")))
    rows = (row for table in tables for row in table.select(["text", "split"]).to_pylist())
    return [row["text"] for row in rows if row["text"] and row["split"] == "train"]


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, normalised.

    Raises:
        CorpusError: when it cannot be read.
    """
    try:
        return [normalise(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); give a UTF-8 text file") from error
