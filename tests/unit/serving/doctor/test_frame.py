"""A frame through every stage, and how its time is judged."""

from pathlib import Path

import pytest
from rich.console import Console

from paluku.serving.doctor.examination import show
from paluku.serving.doctor.finding import exit_code, failure, warning, well
from paluku.serving.doctor.frame import Times, check, judged
from tests.fakes.bundle import tiny_bundle


@pytest.mark.parametrize(
    ("converse_ms", "verdict", "todo"),
    [(20.0, "ok", ""), (30.0, "warn", "no second session"), (36.0, "FAIL", "not one session")],
)
def test_all_stages_together_are_held_against_the_tick(converse_ms: float, verdict: str, todo: str) -> None:
    *each, whole = judged(Times({"encode": 2.0, "converse": converse_ms, "decode": 2.0}, 40.0))
    assert [finding.found for finding in each] == ["2.0 ms", f"{converse_ms} ms", "2.0 ms"]
    assert whole.verdict == verdict
    assert todo in whole.todo
    assert whole.found == f"{converse_ms + 4:.1f} ms of 40 ms for one session"


def test_a_real_bundle_is_stepped_through_its_three_stages(tmp_path: Path) -> None:
    findings = check(str(tiny_bundle(tmp_path)))
    assert [f.check for f in findings] == ["frame encode", "frame converse", "frame decode", "frame"]
    assert "of 40 ms" in findings[-1].found


def test_a_bundle_that_does_not_load_is_a_failure(tmp_path: Path) -> None:
    (finding,) = check(str(tmp_path))
    assert (finding.verdict, "bundle.json" in finding.found) == ("FAIL", True)


def test_warnings_do_not_fail_the_examination() -> None:
    fine, so_so = well("a", "b"), warning("a", "b", "c")
    assert exit_code([fine, so_so]) == 0
    assert exit_code([fine, failure("a", "b", "c"), so_so]) == 1


def test_the_table_shows_each_line_and_what_to_do() -> None:
    console = Console(record=True, width=100, color_system=None)
    show([well("cores", "8"), failure("models", "a [broken] card", "fetch it [again]")], console)
    text = console.export_text()
    assert "a [broken] card" in text
    assert "FAIL models: fetch it [again]" in text
    assert "ok cores" not in text
