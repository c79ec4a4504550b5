from pathlib import Path

import numpy as np
import pytest

from paluku.corpus.sources.port import Source
from paluku.corpus.voices.cast import Cast
from paluku.corpus.voices.sentences import Spoken, SpokenConfig, speak_utterance
from paluku.errors import ConfigError, CorpusError


def source(path: Path, count: int = 4, voices: tuple[str, ...] = ("ravi", "priya")) -> Spoken:
    return Spoken(SpokenConfig(texts=(path,), count=count, voices=voices))


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_sentence_is_said_once_before_any_by_its_next_voice(tmp_path: Path) -> None:
    lines = written(tmp_path / "lines.txt", "# మాట\nఅవును.\n\nకాదు.\nసరే.\n")
    said = [(u.id, u.text, u.voice) for u in source(lines, 5).iterate()]
    assert said == [
        ("000000", "అవును.", "ravi"),
        ("000001", "కాదు.", "priya"),
        ("000002", "సరే.", "ravi"),
        ("000003", "అవును.", "priya"),
        ("000004", "కాదు.", "ravi"),
    ]


def test_an_utterance_has_a_voice_instead_of_a_path(tmp_path: Path) -> None:
    spoken = source(written(tmp_path / "lines.txt", "అవును."))
    assert isinstance(spoken, Source)
    first = next(spoken.iterate())
    assert (first.path, first.speaker, first.gender, first.language) == (None, "ravi", "male", "te")
    assert (first.source, first.licence) == (spoken.name, spoken.licence) == ("spoken", "CC0-1.0")


def test_a_table_says_what_is_said_and_under_which_licence(tmp_path: Path) -> None:
    rows = (
        "# a comment\nintent\ttext\tquestion\theld_out\tlicence\n"
        "a\tఅవును\t\tno\tCC-BY-4.0\n"
        "b\tకాదు\tసరేనా?\tyes\tCC-BY-4.0\n"
        'c\tసరే "అన్నాడు\tవస్తావా?\tno\t\n'
    )
    written(tmp_path / "b.tsv", rows)
    written(tmp_path / "a.tsv", "text\nరా\nఅవును\n")
    said = [(u.text, u.licence) for u in source(tmp_path, 4).iterate()]
    assert said == [
        ("రా", "CC0-1.0"),
        ("అవును", "CC0-1.0"),
        ('సరే "అన్నాడు', "CC0-1.0"),
        ("వస్తావా?", "CC0-1.0"),
    ]


def test_numbers_are_said_in_words(tmp_path: Path) -> None:
    (only,) = source(written(tmp_path / "lines.txt", "25 మంది"), 1).iterate()
    assert only.text is not None
    assert "25" not in only.text
    assert only.text.endswith("మంది")


def test_without_texts_the_shipped_turns_are_said() -> None:
    said = list(Spoken(SpokenConfig(count=30)).iterate())
    assert len({u.text for u in said}) == 30
    voices = {u.voice for u in said}
    assert len(voices) == 14
    assert not voices & set(SpokenConfig().cast.held_out)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("none.txt", None, "cannot be read"),
        ("a.tsv", "word\tlicence\nఅవును\tCC0-1.0\n", "no column named text, sentence, question, answer"),
        ("a.txt", "\n...\n", "no sentences in"),
    ],
)
def test_texts_that_hold_nothing_are_refused(
    tmp_path: Path, name: str, content: str | None, complaint: str
) -> None:
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(CorpusError, match=complaint):
        list(source(tmp_path / name).iterate())


def test_an_unknown_voice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no voice 'sita'; choose some of: arjun"):
        source(tmp_path, voices=("ravi", "sita"))


def test_an_utterance_is_said_by_its_voice(tmp_path: Path) -> None:
    cast = Cast()
    (only,) = source(written(tmp_path / "lines.txt", "అవును, సరే."), 1).iterate()
    np.testing.assert_array_equal(speak_utterance(only, cast).wave, cast.speak("అవును, సరే.", "ravi").wave)
