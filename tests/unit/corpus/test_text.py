import pytest

from paluku.corpus.text import normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  నమస్కారం,\tమీరు\n ఎలా ఉన్నారు? ", "నమస్కారం, మీరు ఎలా ఉన్నారు?"),
        ("క\u0c46\u0c56", "క\u0c48"),  # the vowel sign AI in two parts and in one
        ("caf\u0065\u0301", "caf\u00e9"),
        ("\ufeffతెలుగు\u200b", "తెలుగు"),
        ("రామ్\u200cచరణ్", "రామ్\u200cచరణ్"),  # ZWNJ keeps the virama visible: another spelling
        ("", ""),
    ],
)
def test_worked_examples(text: str, normal: str) -> None:
    assert normalise(text) == normal
    assert normalise(normal) == normal
