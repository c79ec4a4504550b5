"""Names, licences and files that a judgement leaves behind; and what is beside the codec fails alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paluku.errors import EvaluationError
from paluku.evals import beside
from paluku.evals.baselines import Coded
from paluku.evals.clips import Clip
from paluku.evals.codec import Judgement, Options
from paluku.evals.codec_report import About, Findings, Sample
from paluku.evals.codec_results import UNSTATED, folder_name, folder_of, licence_of, metrics, write
from paluku.evals.judges import Judges
from paluku.evals.rows import Row
from paluku.registry.codecs import PUBLISHED, SHIPPED
from tests.fakes.codec import FakeCodec
from tests.fakes.speech import speech_like

RATE_HZ = 16_000
ABOUT = About(codec="ours", hash="abc", licence="CC0-1.0", data="clips", command="run it", codebook_size=4)


def clip() -> Clip:
    return Clip("a.wav", speech_like(1, 1.0), RATE_HZ, "te", "anu", "made", "CC0-1.0")


class Broken:
    """A baseline that is there and fails."""

    name, kbps = "lyra", 3.2

    def __init__(self, error: Exception) -> None:
        self._error = error

    def why_absent(self) -> str | None:
        return None

    def code(self, wave: np.ndarray) -> Coded:
        raise self._error


class Variable(Broken):
    """A baseline that is asked for one rate and gives another."""

    name, kbps = "opus", 9.0

    def code(self, wave: np.ndarray) -> Coded:
        return Coded(wave, 8.37, 0.0, 0.0)


def test_a_folder_is_licensed_by_its_model_card_alone(tmp_path: Path) -> None:
    assert licence_of(str(tmp_path), tmp_path) == UNSTATED
    (tmp_path / "README.md").write_text("---\nlicense: CC-BY-SA-4.0 \nlanguage: te\n---\n")
    assert licence_of(str(tmp_path), tmp_path) == "CC-BY-SA-4.0"
    (tmp_path / "README.md").write_text("---\nlicence:\nlanguage: te\n---\n")
    assert licence_of(str(tmp_path), tmp_path) == UNSTATED


@pytest.mark.parametrize(("name", "licence"), [("encodec", "CC BY-NC 4.0"), ("mimi", "CC-BY-4.0")])
def test_a_published_codec_has_no_folder_even_where_one_has_its_name(
    name: str, licence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "README.md").write_text("licence: somebody else's\n")
    monkeypatch.chdir(tmp_path)
    assert folder_of(name) is None
    assert licence_of(name, folder_of(name)).startswith(licence)
    assert folder_of("default") == SHIPPED
    assert folder_of(f"./{name}") == Path(name)


def test_each_folder_has_its_own_place_for_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [folder_name(spec) for spec in ("default", *PUBLISHED, "a/step-1", "b/step-1")]
    assert names[:-2] == ["default", *PUBLISHED]
    assert len(set(names)) == len(names)
    assert all(name.startswith("step-1-") for name in names[-2:])
    assert folder_name(str(tmp_path / "b" / ".." / "a" / "step-1")) == folder_name("a/step-1")


def test_an_earlier_runs_sound_is_gone_and_other_files_stay(tmp_path: Path) -> None:
    mine = tmp_path / "samples" / "01_te_mine" / "mine.flac"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"")
    one = clip()
    samples = [Sample(one, {"ours 3.2 kbps": one.wave}, RATE_HZ)] * 2
    write(tmp_path, "", ABOUT, Findings([], samples=samples))
    assert mine.is_file()  # no run has written here before
    note = tmp_path / "samples" / "00_te_anu" / "note.txt"
    note.write_text("")
    (tmp_path / "samples" / "01_spectrograms.png").write_bytes(b"")
    written = write(tmp_path, "", ABOUT, Findings([], samples=[Sample(one, {"other": one.wave}, RATE_HZ)]))
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*written, note}
    assert not (tmp_path / "samples" / "01_te_anu").exists()


@pytest.mark.parametrize("error", [EvaluationError("it broke"), ImportError("it broke"), OSError("it broke")])
def test_what_fails_beside_the_codec_is_a_note(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> Row:
        raise error

    light = Judges(metrics={})
    tried = beside.judge_baselines([Broken(error), Variable(error)], [clip()], light, Options())
    assert tried.notes == ["lyra at 3.2 kbps is not judged: it broke"]
    assert {row.name for row in tried.judgement.rows} == {"opus"}
    monkeypatch.setattr(beside, "encodec_cost", fails)
    cost = beside.try_encodec_cost([clip()])
    assert (cost.judgement.rows, cost.notes) == ([], [f"{beside.ENCODEC} is not judged: it broke"])


def test_a_variable_rate_goes_by_the_one_that_was_asked_for() -> None:
    tried = beside.judge_baselines([Variable(OSError())], [clip()], Judges(metrics={}), Options())
    rows = [row.model_dump() | {"pesq": 2.0} for row in tried.judgement.rows]
    assert {row["kbps"] for row in rows} == {8.37}
    assert metrics("ours", rows)["opus/pesq_te_9.0"] == 2.0


def test_every_row_has_the_costs_of_its_depth() -> None:
    rows = [Row(name="ours", kbps=0.2 * depth, language="te", clips=1, depth=depth) for depth in (1, 8)]
    judgement = Judgement([*rows], [rows[1]])
    by_depth: dict[int, Any] = beside.costs(FakeCodec(), [1, 8], [clip()])
    beside.add_costs(judgement, by_depth)
    given = [row.model_dump(include=set(by_depth[1])) for row in (*judgement.rows, *judgement.speakers)]
    assert given == [by_depth[1], by_depth[8], by_depth[8]]
    assert all(value > 0 for value in by_depth[1].values())
