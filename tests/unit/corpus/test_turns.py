from pathlib import Path

import pytest

from paluku.corpus.turns import read_turns
from paluku.errors import CorpusError

HEADER = "question\tanswer\ttopic\tlicence\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "turns.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_comments_and_empty_lines_are_no_turns(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"# whence\n{HEADER}\nఏమిటి?\t ఇది. \tgreet\tCC0-1.0\n# more\nఎందుకు?\tఅలా.\tfun\tCC0-1.0\n"
    )
    turns = read_turns(path)
    assert [(turn.question, turn.answer) for turn in turns] == [("ఏమిటి?", "ఇది."), ("ఎందుకు?", "అలా.")]
    assert turns[0].licence == "CC0-1.0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEADER, "no turns below its header"),
        ("ఏమిటి?\tఇది.\n", "must begin with the header"),
        ("", "must begin with the header"),
        (HEADER + "a\tb\tc\tCC0\na\tb\tc\n", r"turns\.tsv:3 has not the 4 fields"),
        (HEADER + "a\t \tc\tCC0\n", r"turns\.tsv:2 has not the 4 fields"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CorpusError, match=complaint):
        read_turns(written(tmp_path, text))


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.tsv cannot be read"):
        read_turns(tmp_path / "none.tsv")
    (tmp_path / "audio.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorpusError, match=r"audio\.tsv cannot be read"):
        read_turns(tmp_path / "audio.tsv")
