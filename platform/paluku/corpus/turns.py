"""Questions and answers to be spoken: a TSV file with a header row; lines beginning with # are comments."""

from pathlib import Path
from typing import NamedTuple

from paluku.corpus.text import normalise
from paluku.errors import CorpusError

COLUMNS = ("question", "answer", "topic", "licence")


class Turn(NamedTuple):
    """A question and its answer, normalised."""

    question: str
    answer: str
    topic: str
    licence: str


def read_turns(path: Path) -> tuple[Turn, ...]:
    """All rows, in the file's order.

    Raises:
        CorpusError: when the file is missing, has no rows, or a row does not fit; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); give a UTF-8 TSV file of turns") from error
    numbered = [(n, line.split("\t")) for n, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not numbered or tuple(numbered[0][1]) != COLUMNS:
        raise CorpusError(f"{path} must begin with the header {', '.join(COLUMNS)}, separated by tabs")
    turns = tuple(_turn(path, number, fields) for number, fields in numbered[1:])
    if not turns:
        raise CorpusError(f"{path} holds no turns below its header; add some")
    return turns


def _turn(path: Path, number: int, fields: list[str]) -> Turn:
    if len(fields) != len(COLUMNS) or not all(field.strip() for field in fields):
        raise CorpusError(
            f"{path}:{number} has not the {len(COLUMNS)} fields {', '.join(COLUMNS)}; mend the line"
        )
    question, answer, topic, licence = fields
    return Turn(normalise(question), normalise(answer), topic.strip(), licence.strip())
