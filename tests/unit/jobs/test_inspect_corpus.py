import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import inspect_corpus
from paluku.corpus.shards import Kind, Manifest, write_manifest
from tests.fakes.folders import dialogue, utterance, write_folder

REJECT = {
    "id": "a/b [0].wav",
    "source": "corpus",
    "reason": "broken",
    "detail": "no header",
    "duration_s": 2.0,
}


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", ["inspect_corpus", *argv])
    inspect_corpus.main()


@pytest.mark.parametrize(
    ("kind", "rows"),
    [("utterances", [utterance(0), utterance(1, split="test")]), ("dialogues", [dialogue(0), dialogue(1)])],
)
def test_tables_a_page_and_the_same_numbers_as_json(
    kind: Kind,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = write_folder(tmp_path / "in", kind, rows, [REJECT])
    run(monkeypatch, str(tmp_path / "in"), "--page", str(tmp_path / "seen.html"), "--samples", "1")
    out = capsys.readouterr().out
    numbers = json.loads(out.splitlines()[-1])
    assert (numbers["rows"], numbers["kind"], numbers["hash"]) == (2, kind, manifest.hash)
    assert numbers["rejects"]["broken"]["count"] == 1
    assert "By split" in out
    assert "a/b [0].wav (no header)" in " ".join(out.split())
    page = (tmp_path / "seen.html").read_text(encoding="utf-8")
    assert page.count("<audio") == len({row["split"] for row in rows})
    assert "a/b [0].wav (no header)" in page


def test_names_of_data_are_no_markup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [utterance(0) | {"source": "[/te] clips :smile:"}]
    write_folder(tmp_path, "utterances", rows, [REJECT | {"id": "[/b] [red]x.wav"}])
    run(monkeypatch, str(tmp_path), "--samples", "0")
    shown = " ".join(capsys.readouterr().out.rpartition("{")[0].split())
    assert "[/te] clips :smile:" in shown
    assert "[/b] [red]x.wav" in shown


def test_without_page_it_lies_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, "utterances", [utterance(0)])
    run(monkeypatch, str(tmp_path), "--samples", "0")
    assert "None were asked for" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_is_no_corpus_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = Manifest(kind="tokens", config_sha256="0" * 64, shards=())
    empty = Manifest(kind="utterances", config_sha256="0" * 64, shards=())
    write_manifest(tmp_path / "tokens", tokens)
    write_manifest(tmp_path / "empty", empty)
    expected = {
        "nothing": "holds no manifest.json",
        "tokens": "holds tokens; give a folder of utterances or of dialogues",
        "empty": "has no rows in any split; its rejects.parquet says what was left out",
    }
    for folder, message in expected.items():
        with pytest.raises(SystemExit) as stopped:
            run(monkeypatch, str(tmp_path / folder))
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert message in line
